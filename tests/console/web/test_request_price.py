"""What an RPO costs a year in requests is said beside its field, where the vault is in a cloud."""

import html
import re

import pytest
from tests.console.plan_world import APP, BARE, DB
from tests.console.web.stand import Stand

from leeward.console.views import ProtectRequest


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    """DB with an RPO of 1 s, APP of 5 s, BARE not protected."""
    made = Stand(tmp_path_factory.mktemp("cloud"), place="s3://office/leeward")
    made.service.protect("db", ProtectRequest(rpo_s=1))
    made.service.protect("app", ProtectRequest(rpo_s=5))
    yield made
    made.close()


def said(text):
    """Every sentence about money on a page."""
    found = re.findall(r'<p class="help">([^<]*\$[^<]*)</p>', text)
    return [html.unescape(one) for one in found]


ONE = "About $158 a year in requests to the vault while the VM changes all the time."
PRICE = "List price of S3 Standard, us-east-1; check yours."


def test_the_form_tells_the_price_of_the_rpo_that_a_vm_has(cloud):
    operator = cloud.as_role("operator")
    assert said(operator.get(f"/enable?vm={DB}").text) == [f"{ONE} {PRICE}"]
    (bare,) = said(operator.get(f"/enable?vm={BARE}").text)
    assert bare.startswith("About $32 a year")
    (japanese,) = said(cloud.as_role("operator", language="ja").get(f"/enable?vm={DB}").text)
    assert "年間約 $158" in japanese


@pytest.mark.parametrize(
    ("vms", "typed", "words"),
    [
        ([DB], "10s", "About $16 a year"),
        ([DB], "24h", "About $1 a year"),
        ([DB, APP], "1s", "About $316 a year in requests to the vault for these 2 VMs"),
        ([DB, APP], "", "About $189 a year"),
    ],
)
def test_the_price_follows_what_is_typed(cloud, vms, typed, words):
    """Where nothing is typed each VM keeps its own."""
    chosen = "&".join(f"vm={vm}" for vm in vms)
    (sentence,) = said(cloud.as_role("operator").get(f"/enable/price?{chosen}&rpo_s={typed}").text)
    assert sentence.startswith(words)


@pytest.mark.parametrize("typed", ["soon", "0s", "2d", "1s1", "9" * 400])
def test_what_cannot_be_has_no_price(cloud, typed):
    answer = cloud.as_role("operator").get(f"/enable/price?vm={DB}&rpo_s={typed}")
    assert (answer.status_code, answer.text.strip()) == (200, "")


def test_a_form_with_mistakes_tells_the_price_of_what_was_typed(cloud):
    form = {"vm": DB, "rpo_s": "10s", "retain_s": "soon"}
    (sentence,) = said(cloud.as_role("operator").post("/enable", form).text)
    assert sentence.startswith("About $16 a year")


def test_a_folder_costs_nothing_and_nothing_is_said_or_asked(shared):
    page = shared.as_role("operator").get(f"/enable?vm={DB}").text
    assert said(page) == []
    assert "/enable/price" not in page


def test_azure_has_prices_of_its_own_and_a_damaged_place_none(tmp_path):
    stand = Stand(tmp_path, place="azure://office/leeward")
    try:
        page = stand.as_role("operator").get(f"/enable?vm={DB}").text
        assert said(page)[0].endswith("List price of Azure Blob hot LRS; check yours.")
        stand.place.given = None
        stand.place.path.parent.mkdir(parents=True, exist_ok=True)
        stand.place.path.write_text("{")
        answer = stand.as_role("operator").get(f"/enable?vm={DB}")
        assert (answer.status_code, said(answer.text)) == (200, [])
    finally:
        stand.close()
