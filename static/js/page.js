// Small behaviours of all pages. Every page works without them.
const relative = new Intl.RelativeTimeFormat("en", { numeric: "always" });
const zone = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "long" });
const page = document.documentElement;

// Times: keep the relative words true; on hover and on focus tell the viewer's own time, with its zone, and UTC.
function tellTimes(root) {
  for (const element of root.querySelectorAll("time[data-relative]")) {
    const at = new Date(element.dateTime);
    const seconds = (at - Date.now()) / 1000;
    const size = Math.abs(seconds);
    let words = "just now";
    if (size >= 79200) words = relative.format(Math.sign(seconds) * Math.max(1, Math.round(size / 86400)), "day");
    else if (size >= 2700) words = relative.format(Math.sign(seconds) * Math.max(1, Math.round(size / 3600)), "hour");
    else if (size >= 45) words = relative.format(Math.sign(seconds) * Math.max(1, Math.round(size / 60)), "minute");
    if (element.textContent !== words) element.textContent = words;
    if (element.dataset.zoned) continue;
    element.dataset.zoned = "yes";
    element.title = `${zone.format(at)}\n${element.title}`;
    // A finger can always point at it. The Tab key stops at it only where no link of its row tells it.
    const row = element.closest("tr");
    if (!element.closest("a, button, summary")) element.tabIndex = row?.querySelector("a[href], button, summary") ? -1 : 0;
  }
}
tellTimes(document);
setInterval(() => tellTimes(document), 30000);
document.addEventListener("htmx:afterSettle", (event) => tellTimes(event.target));
document.addEventListener("wayleave:refreshed", () => tellTimes(document));

const tip = document.createElement("div");
tip.id = "time-tip";
tip.className = "time-tip";
tip.setAttribute("role", "tooltip");
let tipOf = null;
function placeTip() {
  const place = tipOf.getBoundingClientRect();
  const below = place.bottom + tip.offsetHeight + 8 < innerHeight;
  tip.style.top = `${below ? place.bottom + 6 : place.top - tip.offsetHeight - 6}px`;
  tip.style.left = `${Math.max(8, Math.min(place.left, innerWidth - tip.offsetWidth - 8))}px`;
}
function hideTip() {
  tip.hidden = true;
  for (const told of document.querySelectorAll("[aria-describedby=time-tip]")) told.removeAttribute("aria-describedby");
}
hideTip();
document.addEventListener("focusin", (event) => {
  hideTip();
  const own = event.target.closest("time[data-zoned]");
  const row = own || !event.target.matches(":focus-visible") ? null : event.target.closest("tr");
  const times = own ? [own] : [...(row?.querySelectorAll("time[data-zoned]") ?? [])];
  if (!times.length || event.target.hasAttribute("aria-describedby")) return;
  const label = (time) => (own ? "" : time.closest("[data-label]")?.dataset.label);
  tip.textContent = times.map((time) => (label(time) ? `${label(time)}: ` : "") + time.title.replace("\n", " · ")).join("\n");
  document.body.append(tip);
  tip.hidden = false;
  tipOf = times[0];
  placeTip();
  event.target.setAttribute("aria-describedby", "time-tip");
});
document.addEventListener("focusout", hideTip);
// The focus itself scrolls to what lies below the fold, after it came.
document.addEventListener("scroll", () => tip.hidden || placeTip(), { capture: true, passive: true });
document.addEventListener("keydown", (event) => event.key === "Escape" && hideTip());

// What was asked for is under way: a line at the top of the window, and the part that will change says so.
let waitingUntil = 0;
function wait(target) {
  page.classList.add("is-waiting");
  target?.setAttribute("aria-busy", "true");
  clearTimeout(waitingUntil);
  waitingUntil = setTimeout(waited, 20000); // a file that is being sent leaves the page as it is
}
function waited() {
  clearTimeout(waitingUntil);
  page.classList.remove("is-waiting");
  for (const busy of document.querySelectorAll("[aria-busy]")) busy.removeAttribute("aria-busy");
}
addEventListener("pageshow", waited);
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href]");
  if (!link || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  const stays = link.origin !== location.origin || link.target || link.hasAttribute("download") || link.hash;
  if (!stays) wait();
});
document.addEventListener("submit", (event) => event.defaultPrevented || event.target.method === "dialog" || wait(event.submitter));
const asksByItself = (element) => /\b(load|every)\b/.test(element.getAttribute("hx-trigger") ?? "");
document.addEventListener("htmx:configRequest", (event) => { if (asksByItself(event.target)) event.detail.headers["X-Unattended"] = "yes"; });
// A file that is being sent tells of itself (upload.js).
const tellsItself = (element) => asksByItself(element) || element.matches("form[data-upload]");
document.addEventListener("htmx:beforeRequest", (event) => tellsItself(event.target) || wait(event.detail.target));
document.addEventListener("htmx:afterRequest", (event) => asksByItself(event.target) || waited());

// A filter that could not be answered: the server's own page says why; without a server, the page says so itself.
document.addEventListener("htmx:responseError", (event) => {
  if (asksByItself(event.target) || event.detail.requestConfig.verb !== "get") return;
  location.assign(event.detail.pathInfo.finalRequestPath);
});
document.addEventListener("htmx:sendError", (event) => {
  if (asksByItself(event.target) || document.getElementById("no-answer")) return;
  const note = document.createElement("p");
  note.id = "no-answer";
  note.className = "notice notice-bad";
  note.setAttribute("role", "alert");
  note.textContent = "The server did not answer. What you see is as it was; try again in a moment.";
  document.getElementById("main")?.prepend(note);
});

// Where what had the focus is gone with the part that changed, the keyboard goes on from the page's beginning.
document.addEventListener("htmx:afterSettle", (event) => {
  const asked = event.detail.requestConfig?.elt;
  if (!asked || asksByItself(asked)) return;
  if (!document.activeElement || document.activeElement === document.body) document.getElementById("main")?.focus({ preventScroll: true });
});

// Copy buttons.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
  } catch {
    return; // without permission the text can still be selected
  }
  button.classList.add("is-copied");
  setTimeout(() => button.classList.remove("is-copied"), 1500);
});

// "Select all" boxes and how many are chosen.
function countChosen(form) {
  const boxes = [...form.querySelectorAll("input[type=checkbox][data-choice]")];
  const chosen = boxes.filter((box) => box.checked).length;
  for (const place of form.querySelectorAll("[data-chosen]")) place.textContent = String(chosen);
}
document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-choices]");
  if (form) countChosen(form);
});
const countAll = () => document.querySelectorAll("form[data-choices]").forEach(countChosen);
countAll();
document.addEventListener("htmx:afterSettle", countAll);

// Keys: "/" searches on the page or everywhere, "?" tells the keys, "g" and a letter go to a section.
const places = { o: "/", p: "/patterns", h: "/hosts", s: "/sightings", r: "/rule-sets" };
let goingUntil = 0;
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.matches("input, textarea, select, [contenteditable]")) return;
  const going = Date.now() < goingUntil;
  goingUntil = 0;
  if (going && places[event.key]) {
    event.preventDefault();
    location.assign(places[event.key]);
  } else if (event.key === "g") {
    goingUntil = Date.now() + 1500;
  } else if (event.key === "?") {
    const keys = document.getElementById("keys");
    if (!keys) return;
    event.preventDefault();
    keys.showModal();
  } else if (event.key === "/") {
    const search = document.querySelector("[data-search]") ?? document.getElementById("everything");
    if (!search) return;
    event.preventDefault();
    document.querySelector("details.menu")?.setAttribute("open", "");
    search.focus();
    search.select();
  }
});
document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-open]");
  if (opener) document.getElementById(opener.dataset.open).showModal();
});

// A filter sends itself when a choice changes. What changes anything waits for its button: an arrow key is a choice, too.
document.addEventListener("change", (event) => {
  const form = event.target.closest("form[method=get][data-autosend]");
  if (form && event.target.matches("select, input[type=checkbox], input[list]")) form.requestSubmit();
});

// A link to a folded part opens it.
document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#"]');
  const target = link && document.getElementById(link.getAttribute("href").slice(1));
  if (target instanceof HTMLDetailsElement) target.open = true;
});
