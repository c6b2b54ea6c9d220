// Figures on a page left open: read anew each minute while somebody can see them, and changed only where they differ.
(() => {
  const EVERY_MS = Number(document.currentScript.dataset.everyMs) || 60000;
  const NAME = "wayleave-refresh";
  let paused = false;
  try { paused = localStorage.getItem(NAME) === "paused"; } catch { /* it goes on */ }

  function tell(words) {
    const button = document.querySelector("[data-refresh-toggle]");
    const place = document.getElementById("refresh-word");
    if (!button || !place) return;
    const text = words ?? (paused ? "The figures here stay as they are." : "The figures here are read anew each minute.");
    if (place.textContent !== text) place.textContent = text;
    button.textContent = paused ? "Go on" : "Pause";
    button.setAttribute("aria-pressed", String(paused));
  }

  // What the server sent, without what scripts add and without words that change with the clock.
  function said(element) {
    const copy = element.cloneNode(true);
    for (const time of copy.querySelectorAll("time")) time.replaceWith("");
    for (const link of copy.querySelectorAll("[aria-describedby=time-tip]")) link.removeAttribute("aria-describedby");
    for (const own of copy.querySelectorAll(".picture-tools")) own.remove();
    return copy.innerHTML.replace(/\s+/g, " ");
  }

  const isInUse = (element) =>
    element.contains(document.activeElement) || element.querySelector("details[open]") || element.matches(":hover") ||
    (!getSelection().isCollapsed && getSelection().containsNode(element, true));

  async function refresh() {
    if (paused || document.hidden || !document.querySelector("[data-live]")) return;
    let fresh;
    try {
      // "Unattended": nobody asked for this, so it does not keep somebody signed in.
      const headers = { "HX-Request": "true", "HX-Target": "main", "X-Unattended": "yes" };
      const answer = await fetch(location.pathname + location.search, { headers });
      if (!answer.ok || answer.redirected) throw new Error("no figures");
      fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    } catch {
      tell("The figures could not be read anew: the server did not answer, or your session has ended.");
      return;
    }
    for (const place of document.querySelectorAll("[data-live]")) {
      const other = fresh.getElementById(place.id);
      if (!other || isInUse(place) || said(place) === said(other)) continue;
      const adopted = document.adoptNode(other);
      place.replaceWith(adopted);
      window.htmx?.process(adopted);
      adopted.dispatchEvent(new CustomEvent("wayleave:refreshed", { bubbles: true }));
    }
    const at = fresh.getElementById("as-of");
    if (at) {
      document.getElementById("as-of")?.replaceWith(document.adoptNode(at));
      document.dispatchEvent(new CustomEvent("wayleave:refreshed"));
    }
    tell();
  }

  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-refresh-toggle]")) return;
    paused = !paused;
    try { localStorage.setItem(NAME, paused ? "paused" : "goes on"); } catch { /* it lasts for this page */ }
    tell();
    refresh();
  });
  document.addEventListener("htmx:afterSettle", () => tell());
  setInterval(refresh, EVERY_MS);
  document.addEventListener("wayleave:refresh", refresh);
  tell();
})();
