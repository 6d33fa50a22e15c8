// Light and dark: as the system has it, until somebody switches; remembered.

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
}

function switchTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
  setTheme(now === "dark" ? "light" : "dark");
  try {
    localStorage.setItem("zfkernels-theme", document.documentElement.dataset.theme);
  } catch { /* a browser that keeps nothing forgets this too */ }
}

document.getElementById("theme").addEventListener("click", switchTheme);
try {
  setTheme(localStorage.getItem("zfkernels-theme"));
} catch { /* as above */ }
