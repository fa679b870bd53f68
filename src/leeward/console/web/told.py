"""What other parts of Leeward say in English (reasons, errors, steps), said in the reader's language.

They speak in finished sentences, with names and numbers in them; a pattern here takes one apart again. A sentence
that no pattern knows is shown as it is: an English reason is better than none.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from leeward.console.web.phrases import N_

PATTERNS = (
    # states of protection
    N_("starting"),
    N_("starting: reading the vault"),
    N_("not protected"),
    N_("it is not protected"),
    N_("cannot be protected: {why}"),
    N_("the VM is not on its host now"),
    N_("its agent does not answer"),
    N_("the first copy is under way; failover opens when it is complete"),
    N_("the first copy cannot go on: {why}"),
    N_("the first copy waits in the local spool: {why}"),
    N_("paused by the operator; existing recovery points stay usable{more}"),
    N_("the vault's newest point is not known: {why}"),
    N_("comparing every block with the vault: {why}"),
    N_("comparing every block ({why}) cannot go on: {failure}"),
    N_("change tracking was lost"),
    N_("retrying: {why}"),
    N_("catching up: {what} to be sent"),
    N_("stays off on this host: {why}"),
    N_("held still: a failover is under way"),
    N_("the agent is stopped"),
    N_("old points could not be pruned: {why}"),
    N_("its host {host} cannot be asked; it can be recovered from the vault"),
    N_("its host {host} cannot be asked, and the vault has no recovery point of it"),
    N_("the vault cannot be read: {why}"),
    N_("it runs at {host}"),
    N_("it does not answer"),
    N_("the newest point of each: group {group} has no instant yet that all of its VMs have"),
    N_("one instant of group {group}, {behind} older than the newest point"),
    N_("one instant of group {group}"),
    N_("the VMs of group {group} last agree {behind} before their newest points"),
    N_("the instant of {vm}, {behind} older than the newest point"),
    # runs
    N_("newest usable point: {point}"),
    N_("bringing the last changes into the vault"),
    N_("making the VM out of point {point}"),
    N_("{copy} at point {point}, on {network}{source}"),
    N_("no network"),
    N_("giving the home site the time to find out and stop its VM"),
    N_("waiting for the guest"),
    N_("no picture: {why}"),
    N_("the VM has no screen"),
    N_("its agent sent none"),
    N_("the guest is shutting down"),
    N_("the guest shut down by itself"),
    N_("powered off: the guest did not obey within {seconds} s"),
    N_("point {point} holds everything: {what} compared, no difference"),
    N_("all that could have changed"),
    N_("it was running and has been stopped"),
    N_("it is off"),
    N_("epoch {epoch} has begun after point {point}"),
    N_("{host} did not stop it in time; its log is closed instead"),
    N_("{host} cannot be reached; its log is closed instead"),
    N_("replicated from {host}"),
    N_("it is not protected; nothing to move"),
    N_("the agent of {what} does not answer"),
    N_("the recovery host"),
    N_("the home host"),
    N_("{what} does not answer: {why}"),
    N_("a test failover exists already ({copy}, point {point})"),
    N_("a test failover of it is just being started"),
    N_("its test failover is just being removed"),
    N_("there is no test failover of it to clean up"),
    N_("a test failover of it exists"),
    N_("it goes on already"),
    N_("somebody else is moving it at this moment"),
    N_("clients can reach the VM at its new site: there is no way back, only forward"),
    N_("no recovery host is known"),
    N_("it runs there already"),
    N_("a planned failover always brings the newest data"),
    N_("there is no recovery point {point}"),
    N_("there is no application-consistent recovery point"),
    N_("it cannot be protected: {why}"),
    N_("it stays off here: {why}"),
    N_("there is no such VM"),
    N_("no VM was chosen"),
    N_("there is no such run"),
    N_("there is no such plan"),
    # plans
    N_("a name has up to 63 letters, digits, spaces and _ . + -"),
    N_("a plan without VMs does nothing"),
    N_("a group without VMs does nothing"),
    N_("another group has this name too"),
    N_("there is no group before the first one to wait after"),
    N_("this VM is not in the group"),
    N_("a port from 1 to 65535 is needed"),
    N_("{address} is no IP address, like 10.0.0.5 or 10.0.0.5/24"),
    N_("a path begins with / and has no spaces"),
    N_("a status is a number from 100 to 599"),
    N_("it must be more than 0"),
    N_("a script that is never run"),
    N_("it names no script"),
    N_("it is missing"),
    N_("it is empty"),
    N_("it is too long"),
    N_("a whole number is needed"),
    N_("at most 7 days"),
    N_("{text} is not a duration; write it like 30s or 5m"),
    N_("{vm} is not protected"),
    N_("there is no protected VM {vm}"),
    N_("a plan has a name and groups"),
    N_("a plan of this name exists"),
    N_("a run of it is under way: it cannot be renamed now"),
    N_("somebody else has changed this plan meanwhile"),
    N_("Somebody approves of group {group}: {question}"),
    N_("Somebody approves of group {group}"),
    N_("See that {vm} can go"),
    N_("Shut {vm} down at home"),
    N_("Bring the last changes of {vm} into the vault and make it ready"),
    N_("Take {vm} back where that is possible"),
    N_("Remove the copy of {vm}"),
    N_("Start a copy of {vm}, apart from production"),
    N_("Start {vm} at the recovery site"),
    N_("Fail {vm} over"),
    N_("Wait {seconds} s"),
    N_("Check {vm}: {what}"),
    N_("{vm} is not protected any more"),
    N_("a run of it is under way"),
    N_("its run waits for an approval"),
    N_("its run is paused"),
    N_("its run has stalled"),
    N_("its run is being aborted"),
    N_("its test is being cleaned up"),
    N_("its last run was aborted"),
    N_("its last run has ended"),
    N_("its last run was cleaned up"),
    N_("nothing of it has failed"),
    N_("there is nothing to clean up: this was no test"),
    # signing in
    N_("user name or password is wrong"),
    N_("too many attempts to sign in"),
    N_("this set-up code is wrong or over"),
    N_("there are users already"),
    N_("a password has {least} to {most} characters"),
    N_("this password is too easy to guess"),
    N_("this is no user name"),
    N_("Leeward uses this name itself"),
    N_("the present password is wrong"),
    N_("there is such a user already"),
    N_("there is no such user"),
    N_("this is the last admin"),
    N_("only an admin changes another's password"),
    N_("a token cannot make tokens"),
    N_("there is such a token already"),
    N_("there is no such token"),
    N_("this is no name for a token"),
    N_("this needs the role {role}, and {who} is {other}"),
    N_("there is a vault already"),
    N_("this machine does not hold the vault's key"),
    N_("the passphrase is too easy to guess"),
    N_("this request does not come from a page of this console"),
    N_("the address is wrong, or what it led to is gone"),
    N_("an error inside Leeward"),
    # alerts
    N_("{percent} % in use, {free} GiB free"),
    N_("this alert is over"),
    N_("there is no such alert"),
    N_("the mail server cannot be reached: {why}"),
    N_("the mail server refused the login: {why}"),
    N_("the mail server refused the sender: {why}"),
    N_("the mail server refused recipients: {why}"),
    N_("the mail server refused the message: {why}"),
    N_("the mail server cannot do this: {why}"),
    N_("the mail server's certificate is not trusted: {why}"),
    N_("no TLS with the mail server: {why}"),
    N_("the mail server broke off: {why}"),
    N_("the receiver cannot be reached: {why}"),
    N_("the receiver did not answer within {seconds} s"),
    N_("the receiver answered with status {status}"),
    # what to do next
    N_("Take a longer sentence"),
    N_("Load the page again"),
    N_("An admin can change the role"),
    N_("Try again in {seconds} s"),
    N_("Up to 64 of a-z, 0-9, '.', '_', '-' and '@', beginning with a letter or digit"),
    N_("Up to 64 letters, digits and .@:/+-_"),
    N_("Make another user admin first"),
    N_("Revoke it, or take another name"),
    N_("Wait until it is gone"),
    N_("Use the newest one"),
    N_("Start it, then retry"),
    N_("See the daemon's log"),
)


class Told:
    def __init__(self, gettext: Callable[[str], str]) -> None:
        self._gettext = gettext
        self._shapes = [(text, shape(text)) for text in PATTERNS if "{" in text]

    def __call__(self, text: str) -> str:
        whole = self._gettext(text) if text else ""
        if whole != text:
            return whole  # before the patterns: "Shut the VM down" is no VM of the name "the VM"
        for pattern, expression in self._shapes:
            match = expression.fullmatch(text)
            if match:
                values = {name: self(value) for name, value in match.groupdict().items()}
                return self._gettext(pattern).format(**values)
        return text


def shape(pattern: str) -> re.Pattern[str]:
    """What a sentence of this pattern looks like."""
    pieces = re.split(r"{(\w+)}", pattern)
    return re.compile(
        "".join(f"(?P<{piece}>.*)" if number % 2 else re.escape(piece) for number, piece in enumerate(pieces)),
        re.DOTALL,
    )
