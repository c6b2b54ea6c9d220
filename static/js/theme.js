// Sets the theme and how close rows stand before anything is drawn: as chosen last, else the system's and the usual.
(() => {
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  try { chosen = localStorage.getItem("wayleave-theme"); } catch { /* storage may be switched off */ }
  const apply = () => {
    const theme = chosen ?? (system.matches ? "dark" : "light");
    document.documentElement.dataset.bsTheme = theme;
    document.dispatchEvent(new CustomEvent("wayleave:theme", { detail: theme }));
  };
  const remember = (name, value) => { try { localStorage.setItem(name, value); } catch { /* it lasts for this page */ } };
  let density = null;
  try { density = localStorage.getItem("wayleave-density"); } catch { /* as above */ }
  const pack = () => {
    document.documentElement.dataset.density = density === "compact" ? "compact" : "usual";
    for (const button of document.querySelectorAll("[data-density-toggle]")) button.setAttribute("aria-pressed", String(density === "compact"));
  };
  document.documentElement.classList.add("js");
  apply();
  pack();
  document.addEventListener("DOMContentLoaded", pack);
  system.addEventListener("change", apply);
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-density-toggle]")) {
      density = density === "compact" ? "usual" : "compact";
      remember("wayleave-density", density);
      pack();
    }
    if (!event.target.closest("[data-theme-toggle]")) return;
    chosen = document.documentElement.dataset.bsTheme === "dark" ? "light" : "dark";
    remember("wayleave-theme", chosen);
    apply();
  });
})();
