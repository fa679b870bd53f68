// What htmx cannot do: the reader's time zone, lost connections, pages that have to be loaded again.
(() => {
  "use strict";
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const zoneCookie = "leeward-zone=" + zone;
  if (zone && !document.cookie.split("; ").includes(zoneCookie)) {
    document.cookie = zoneCookie + "; path=/; max-age=31536000; secure; samesite=strict";
  }

  const notice = () => document.getElementById("notice");
  const say = (which) => { const box = notice(); if (box) box.textContent = which ? box.dataset[which] : ""; };

  // A stream that cannot be had is tried again by itself; the reader has to know that what he sees may be old.
  document.addEventListener("htmx:sse:error", (event) => {
    if (event.detail?.status === 401) location.reload(); // the login is over: the page leads to signing in
    else say("lost");
  });
  document.addEventListener("htmx:sse:after:connection", () => say(""));
  document.addEventListener("htmx:error", () => say("failed"));
  document.addEventListener("htmx:before:request", () => { if (notice()?.textContent === notice()?.dataset.failed) say(""); });

  // On a phone the menu is one line that reaches further than the window: where the reader is must be in sight.
  document.querySelector(".side [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

  document.addEventListener("click", (event) => { if (event.target.closest?.("[data-print]")) window.print(); });

  // A chosen file's text goes into the field beside it: forms of ours bring text alone.
  document.addEventListener("change", async (event) => {
    const into = document.getElementById(event.target.dataset?.into ?? "");
    const file = event.target.files?.[0];
    if (into && file) into.value = await file.text();
  });

  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (!button) return;
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.querySelector("span").textContent = button.dataset.copied;
  });

  // Who presses a button that the answer takes away goes on from where it was: at what has come in its place, or at
  // what went wrong, and not at the top of the page.
  let held = [];
  document.addEventListener("focusin", (event) => {
    held = [];
    for (let one = event.target; one && one !== document.body; one = one.parentElement) held.push(one);
  });
  document.addEventListener("htmx:after:swap", () => {
    if (document.activeElement !== document.body || !held.length || held[0].isConnected) return;
    for (const old of held) {
      const now = old.isConnected ? old : old.id ? document.getElementById(old.id) : null;
      if (!now) continue;
      const place = now.querySelector('[autofocus], [role="alert"]') ?? now;
      if (place.tabIndex < 0) place.tabIndex = -1;
      place.focus();
      return;
    }
  });

  // The stream says that this page is no longer right (its VM is gone, the login is over).
  document.addEventListener("leeward-reload", () => location.reload());
})();
