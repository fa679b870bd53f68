"""What stands against taking a host away. Pure; the deed is tried in tests/console/web/test_removing.py."""

import pytest

from leeward.console.host_removal import Facts, Obstacle, Why, copies_at, obstacles, there
from leeward.domain.lifecycle import Phase
from leeward.domain.procedures import Kind
from leeward.domain.runs import Run
from leeward.state.lives import Life
from leeward.wire.messages import CopyReport, PolicyMessage, ProtectionMessage


def facts(**more):
    nothing = {"wishes": (), "lives": (), "runs": (), "plans": ()}
    nothing |= {"copies": {}, "made": {}, "kept_off": {}, "replicas": {}, "there": {}}
    return Facts(**{**nothing, **more})


def wish(name, host="office", warm=""):
    return ProtectionMessage(vm_id=f"id-{name}", vm_name=name, host=host, policy=PolicyMessage(warm=warm))


def life(name, phase, home="office", away="north"):
    return Life(f"id-{name}", name, phase, home, away)


def run(name, home="office", away="north"):
    return Run(
        id=f"run-{name}",
        kind=Kind.TEST,
        vm_id=f"id-{name}",
        vm_name=name,
        home=home,
        away=away,
        point="latest",
        by="anna",
        created=1.0,
    )


def found(host, **more):
    return [(one.why, one.names) for one in obstacles(host, facts(**more))]


ELSEWHERE = {"wishes": (wish("db"), wish("app", warm="other")), "lives": (life("db", Phase.AWAY, away="other"),)}


EXISTS = {"there": {"north": {"id-db"}}}


def test_nothing_stands_against_a_host_that_nothing_needs():
    assert found("north") == []
    assert found("north", **ELSEWHERE, runs=(run("db", away="other"),)) == []
    # A VM that has been home again for long does not need the host it once was at.
    assert found("north", lives=(life("db", Phase.HOME),)) == []


@pytest.mark.parametrize(
    ("more", "why", "names"),
    [
        ({"wishes": (wish("web", "north"), wish("db", "north"), wish("app"))}, Why.PROTECTED, ("db", "web")),
        ({"wishes": (wish("db", warm="north"),)}, Why.WARM, ("db",)),
        ({"runs": (run("db"),)}, Why.RUN, ("db",)),
        ({"runs": (run("db", home="north", away="x"),)}, Why.RUN, ("db",)),
        ({"plans": ("shop",)}, Why.PLAN, ("shop",)),
        ({"copies": {"id-db": "db"}}, Why.COPY, ("db",)),
        ({"made": {"id-db": "db"}}, Why.MADE, ("db",)),
        ({"kept_off": {"id-db": "db"}}, Why.KEPT_OFF, ("db",)),
        ({"replicas": {"id-db": "db"}}, Why.REPLICA, ("db",)),
        *(
            ({"lives": (life("db", phase),), **EXISTS}, Why.MOVED, ("db",))
            for phase in Phase
            if phase is not Phase.HOME
        ),
        ({"lives": (life("db", Phase.AWAY, home="north", away="x"),)}, Why.MOVED, ("db",)),
    ],
)
def test_each_thing_that_needs_it_is_told(more, why, names):
    assert found("north", **more) == [(why, names)]


def test_of_a_vm_only_that_is_told_from_which_the_rest_follows():
    """It was failed over to the host: that it is protected there, and what its copy is, follows from that."""
    away = {"wishes": (wish("db", "north"),), "lives": (life("db", Phase.AWAY),), "made": {"id-db": "db"}}
    assert found("north", **away) == [(Why.MOVED, ("db",))]
    testing = {"wishes": (wish("db", warm="north"),), "runs": (run("db"),), "copies": {"id-db": "db"}}
    assert found("north", **testing) == [(Why.RUN, ("db",)), (Why.WARM, ("db",))]
    both = {"wishes": (wish("db", warm="north"),), "replicas": {"id-db": "db", "id-old": "old"}}
    assert found("north", **both) == [(Why.WARM, ("db",)), (Why.REPLICA, ("old",))]


def test_every_obstacle_says_what_it_is_and_what_to_do():
    for why in Why:
        what, hint = Obstacle(why, ("db", "web")).told
        assert "{" not in what + hint
        assert what
        assert hint
    assert Obstacle(Why.WARM, ("db", "web")).told == (
        "policies want warm replicas there: db, web",
        "Let them be elsewhere or nowhere: `leeward protect db --no-warm`",
    )


def copy(name, purpose, host="north"):
    return CopyReport(
        vm_id=f"id-{name}",
        vm_name=name,
        purpose=purpose,
        point="7",
        copy_id=f"copy-{name}",
        copy_name=name,
        host=host,
        network="",
        steps=(),
        evidence={},
        hydrated=True,
        failed="",
    )


def test_only_copies_of_tests_are_there_to_be_cleaned_up():
    copies = [
        copy("db", "test"),
        copy("web", "failover"),
        copy("app", "test", "other"),
        copy("old", "failover", "other"),
    ]
    assert copies_at("north", copies) == ({"id-db": "db"}, {"id-web": "web"})
    assert "cleanup" in Obstacle(Why.COPY, ("db",)).told[1]
    assert Obstacle(Why.MADE, ("web",)).told[1] == "Look again in a moment"


SETTLED = {"lives": (life("db", Phase.SETTLED),), "kept_off": {}}
NOWHERE = {"office": {"id-x"}, "north": {"id-y"}}


@pytest.mark.parametrize(
    ("more", "away", "home"),
    [
        ({}, True, True),
        ({"there": {"north": ()}}, True, True),  # nobody has the other host any more
        ({"there": {**NOWHERE, "north": {"id-db"}}}, False, False),
        ({"there": {**NOWHERE, "office": {"id-db"}}}, True, False),
        ({"there": {**NOWHERE, "north": None}}, False, False),  # it cannot be asked
        ({"there": {**NOWHERE, "office": None}}, True, False),
        ({"wishes": (wish("db", "elsewhere"),)}, False, False),
        *(
            ({"lives": (life("db", phase),)}, False, False)
            for phase in Phase
            if phase not in (Phase.HOME, Phase.SETTLED)
        ),
    ],
)
def test_a_vm_that_was_committed_away_and_is_no_more_keeps_no_host(more, away, home):
    told = {**SETTLED, "there": NOWHERE, **more}
    assert found("north", **told) == ([] if away else [(Why.MOVED, ("db",))])
    # Of one that keeps its home nothing but that is told, and of one that does not nothing at all.
    assert found(
        "office",
        **told,
    ) == ([] if home else [(Why.MOVED, ("db",))])
    kept_off = {**told, "kept_off": {"id-db": "db"}}
    assert found("north", **told, made={"id-db": "db"}) == ([] if away else [(Why.MOVED, ("db",))])
    assert found("office", **kept_off) == ([] if home else [(Why.MOVED, ("db",))])


def test_a_record_alone_is_no_vm():
    web = copy("web", "failover")
    assert there("north", ["copy-web"], [web]) == {"copy-web", "id-web"}
    assert there("north", ["id-x"], [web]) == {"id-x"}
    assert there("south", [], [web]) == set()
    # One that is being made, or of a test, is somebody's still.
    assert there("north", [], [web.model_copy(update={"hydrated": False})]) == {"id-web"}
    assert there("north", [], [copy("db", "test")]) == {"id-db"}
