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

  // The stream says that this page is no longer right (its VM is gone, the login is over).
  document.addEventListener("leeward-reload", () => location.reload());
})();
