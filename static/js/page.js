// Small behaviours of all pages. Every page works without them.
const relative = new Intl.RelativeTimeFormat("en", { numeric: "always" });
const zone = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

// Times: keep the relative words true, and show the viewer's zone beside UTC on hover.
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
    if (!element.dataset.zoned) {
      element.dataset.zoned = "yes";
      element.title = `${zone.format(at)}\n${element.title}`;
    }
  }
}
tellTimes(document);
setInterval(() => tellTimes(document), 30000);
document.addEventListener("htmx:afterSettle", (event) => tellTimes(event.target));

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
for (const form of document.querySelectorAll("form[data-choices]")) countChosen(form);

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

// A filter form sends itself when a choice changes.
document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-autosend]");
  if (form && event.target.matches("select, input[type=checkbox]")) form.requestSubmit();
});

// A link to a folded part opens it.
document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#"]');
  const target = link && document.getElementById(link.getAttribute("href").slice(1));
  if (target instanceof HTMLDetailsElement) target.open = true;
});
