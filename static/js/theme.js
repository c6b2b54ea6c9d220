// Sets the theme before anything is drawn: the one chosen last, else the system's.
(() => {
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  try { chosen = localStorage.getItem("wayleave-theme"); } catch { /* storage may be switched off */ }
  const apply = () => {
    const theme = chosen ?? (system.matches ? "dark" : "light");
    document.documentElement.dataset.bsTheme = theme;
    document.dispatchEvent(new CustomEvent("wayleave:theme", { detail: theme }));
  };
  document.documentElement.classList.add("js");
  apply();
  system.addEventListener("change", apply);
  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-theme-toggle]")) return;
    chosen = document.documentElement.dataset.bsTheme === "dark" ? "light" : "dark";
    try { localStorage.setItem("wayleave-theme", chosen); } catch { /* it lasts for this page */ }
    apply();
  });
})();
