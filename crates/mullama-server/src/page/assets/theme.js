// Sets the chosen theme before the first paint. Without a choice the system's theme applies.
(() => {
  try {
    const theme = localStorage.getItem("mullama.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // Storage is turned off in this browser; the system's theme applies.
  }
})();
