"""Every scenario that comes with Leeward, played on real guests with console, agents and vault apart."""

import pytest

from leeward.lab.scenario.document import shipped
from leeward.lab.scenario.playing import play
from leeward.lab.scenario.stage import Stage

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(420)]


@pytest.fixture(scope="module")
def stage(make_lab):
    return Stage(make_lab("scen"))


@pytest.mark.parametrize("file", shipped(), ids=lambda path: path.stem)
def test_it_goes_as_it_says(stage, file):
    said = []
    outcome = play(stage, file, lambda text, detail: said.append(f"{text}: {detail}"))
    print("\n".join(said))
    assert outcome.passed, outcome.failure
    # A watcher that saw nothing proves nothing.
    assert outcome.looks > 50
    assert outcome.points > 0
