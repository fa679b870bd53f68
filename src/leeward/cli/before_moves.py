"""What is told, and asked, before VMs are moved, and what is refused before anybody is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from leeward.cli.asking import NoSuchAddress, RemoteError, vm_path
from leeward.cli.confirming import confirm
from leeward.cli.output import err, plain
from leeward.cli.units import show_seconds, show_time
from leeward.domain.errors import BadInput, NotFound, Refused
from leeward.domain.lifecycle import Event, Phase, Refusal, after


def standing(client: Any, vm: str, event: Event) -> dict[str, Any]:
    """The VM's status. Raises Refused where what is wanted makes no sense now: nobody is to be asked in vain."""
    view: dict[str, Any] = client.get("/status", vm=vm)[0]
    following = after(Phase(view["phase"]), event, view["vm"])
    if isinstance(following, Refusal):
        raise Refused(following.reason, subject=view["vm"], hint=following.hint)
    if view["policy"] is None:
        hint = f"Protect it with `leeward protect {view['vm']}`"
        raise Refused("it is not protected", subject=view["vm"], hint=hint)
    return view


def must_be_host(client: Any, to: str | None, runs_at: str = "") -> None:
    """As the console itself would refuse it, after the question. runs_at: where the VM is. Raises BadInput,
    NotFound."""
    if to is None:
        return
    if to == runs_at:
        raise BadInput("it runs there already", subject=to, hint="Name a host of the other site with --to")
    known = sorted(host["name"] for host in client.get("/hosts"))
    if to not in known:
        raise NotFound("no agent has this host", subject=to, hint=f"Known hosts: {', '.join(known) or 'none'}")


def must_lead_away(client: Any, to: str | None, runs_at: str = "") -> None:
    """The same of a way to the recovery site, where the first host is taken when none is named."""
    if to is None and all(host["site"] != "recovery" for host in client.get("/hosts")):
        raise NotFound(
            "no recovery host is known",
            hint='Add a [[host]] with site = "recovery" and a storage folder to leeward.toml',
        )
    must_be_host(client, to, runs_at)


def tell_newest(view: dict[str, Any]) -> None:
    point, replica = view["last_point"], view["replica"]
    if point:
        age = show_seconds(view["rpo_actual_s"]) if view["rpo_actual_s"] is not None else "unknown"
        err.print(f"Newest recovery point: {point['id']} of {show_time(point['time'])} ({age} old)")
    if replica and replica["point"]:
        err.print(
            f"The warm replica at {replica['host']} holds point {replica['point']} of {show_time(replica['time'])}"
        )


def confirm_loss(client: Any, vm: str, how: dict[str, Any], where: str) -> None:
    """Ask with the very point that it would be started from, which is not always the newest: to be agreed to is what
    is lost. how: see `LossRequest` of the API; where: it is started."""
    view = standing(client, vm, Event(how["event"]))
    home, away = view["home"], view["away"]
    must_be_host(client, how["to"], home if how["event"] == "unplanned" else away)
    try:
        loss = client.get(vm_path(vm, "/loss"), **how)
    except NoSuchAddress:  # a console of before
        tell_newest(view)
        chosen = {"latest": "its newest point", "app": "its newest application-consistent point"}
        point = chosen.get(how["point"], f"point {how['point']}")
        confirm(f"{view['vm']} is started at {where} from {point}; all that came after it is lost")
        return
    tell_newest(view)
    err.print(f"It is started from: {_start(loss)}")
    if loss["lossless"]:
        planned, runs_at = ("failover planned", home) if how["event"] == "unplanned" else ("failover failback", away)
        err.print(f"{runs_at} answers: `leeward {planned} {view['vm']}` would lose nothing")
    age = show_seconds(loss["age_s"])
    confirm(f"{view['vm']} is started at {where} from point {loss['point']}; its last {age} are lost")


def confirm_losses(client: Any, vms: Sequence[str], how: dict[str, Any]) -> None:
    """The same for all VMs of a plan. One of which nothing can be told does not keep the others from being moved: its
    step of the run finds out."""
    must_lead_away(client, how["to"])
    names, ages = ", ".join(plain(vm) for vm in vms), []
    for vm in vms:
        try:
            loss = client.get(vm_path(vm, "/loss"), event="unplanned", **how)
        except NoSuchAddress:  # a console of before
            confirm(f"{names}: all are started from the vault; what is not in there yet is lost")
            return
        except RemoteError as error:
            err.print(f"{plain(vm)}: {plain(error.message)}", soft_wrap=True)
            continue
        ages.append(loss["age_s"])
        err.print(f"{plain(vm)} is started from: {_start(loss)}", soft_wrap=True)
    lost = f"up to {show_seconds(max(ages))} are lost" if ages else "what is not in the vault yet is lost"
    confirm(f"{names}: all are started at the recovery site; {lost}")


def _start(loss: dict[str, Any]) -> str:
    kind = "application-consistent" if loss["consistency"] == "app" else ""
    said = ", ".join(part for part in (f"{show_seconds(loss['age_s'])} old", kind, loss["note"]) if part)
    return f"{loss['point']} of {show_time(loss['time'])} ({said})"
