"""What the requests of an RPO cost a year, beside its field. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from leeward.console.views import StatusView
from leeward.console.web.forms import Form
from leeward.console.web.phrases import N_, Phrase, phrase
from leeward.console.web.policy_form import read_policy
from leeward.vault.stores.cost import PRICES, provider_of, request_cost, whole_dollars
from leeward.wire.messages import PolicyMessage

_OF_ONE = N_(
    "About ${dollars} a year in requests to the vault while the VM changes all the time. "
    "List price of {product}; check yours."
)
_OF_SEVERAL = N_(
    "About ${dollars} a year in requests to the vault for these {count} VMs while they change all the time. "
    "List price of {product}; check yours."
)


def has_price(url: str) -> bool:
    """Whether requests to a vault at this address cost money."""
    return PRICES[provider_of(url)].dollars > 0


def price_of(url: str, rpo: str, found: Sequence[StatusView]) -> Phrase | None:
    """rpo: what stands in the field; where it is empty, what each VM has counts. None where it costs nothing, and for
    what cannot be."""
    request, wrong = read_policy(Form([("rpo_s", rpo)]))
    provider = provider_of(url)
    if request is None or wrong or not has_price(url):
        return None
    rpos_s = [request.rpo_s or (one.policy or PolicyMessage()).rpo_s for one in found]
    dollars = whole_dollars(sum(request_cost(provider, rpo_s, 1) for rpo_s in rpos_s))
    text = _OF_ONE if len(rpos_s) == 1 else _OF_SEVERAL
    return phrase(text, dollars=f"{dollars:,}", count=len(rpos_s), product=PRICES[provider].what)
