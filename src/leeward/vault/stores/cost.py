"""What the requests of a recovery point objective cost in a year.

List prices of writes as known in November 2026. They differ by region and change, so they are shown with ADVICE:
- S3 Standard, us-east-1: PUT $0.005 per 1,000 (aws.amazon.com/s3/pricing, as quoted at
  c3x.dev/blog/s3-request-fees-explained).
- Azure Blob, hot tier, LRS, flat namespace: write $0.05 to $0.065 per 10,000 by region (the examples of Microsoft's
  "Estimate the cost of using Azure Blob Storage" come to $0.055). The highest is used: better to be glad than sorry.
Storage and traffic are not in it. Reads (a recovery) cost a tenth or less of this and come rarely.
"""

from __future__ import annotations

from dataclasses import dataclass

from leeward.domain.errors import BadInput

SECONDS_A_YEAR = 365.25 * 24 * 3600
ADVICE = "list price, check yours"


@dataclass(frozen=True, slots=True)
class WritePrice:
    """dollars a write request; what: the product it is the price of, for people."""

    dollars: float
    what: str


PRICES = {
    "s3": WritePrice(0.005 / 1_000, "S3 Standard, us-east-1"),
    "azure": WritePrice(0.065 / 10_000, "Azure Blob hot LRS"),
    "local": WritePrice(0.0, "own disk"),
}

USUAL_RPOS_S = (1, 5, 15, 30, 60, 300, 900)


@dataclass(frozen=True, slots=True)
class CostRow:
    rpo_s: float
    dollars_a_year: float


def request_cost(provider: str, rpo_s: float, vms: int) -> float:
    """Dollars a year for one write request per VM and cycle ("s3", "azure" or "local").

    Of VMs that change all the time, a little at a time: cycles without a change send nothing, while a cycle with
    more than about 32 MiB of changes sends one request more for each further 32 MiB. Cycles begin a little earlier
    than the RPO says, so that they are in time: what is told of this is told with "about".
    Raises BadInput for an unknown provider, rpo_s <= 0 or vms < 0.
    """
    if provider not in PRICES:
        raise BadInput(f"no prices for {provider!r}", hint=f"Known: {', '.join(PRICES)}")
    if not rpo_s > 0:
        raise BadInput(f"an RPO of {rpo_s:g} s is not possible", hint="Give more than 0 seconds")
    if vms < 0:
        raise BadInput(f"{vms} VMs cannot be protected")
    return SECONDS_A_YEAR / rpo_s * vms * PRICES[provider].dollars


def cost_table(provider: str, vms: int, rpos_s: tuple[float, ...] = USUAL_RPOS_S) -> list[CostRow]:
    """The rows from which an operator chooses an RPO."""
    return [CostRow(rpo_s, request_cost(provider, rpo_s, vms)) for rpo_s in rpos_s]


def whole_dollars(dollars: float) -> int:
    """As it is shown: what is not free of charge never is $0."""
    return max(round(dollars), 1 if dollars > 0 else 0)


def provider_of(url: str) -> str:
    """The provider whose prices apply to a store's address ("local" for everything that is not a cloud)."""
    scheme = url.partition("://")[0]
    return {"s3": "s3", "azure": "azure", "az": "azure"}.get(scheme, "local")
