// Applies the chosen theme before the first paint. Without a choice the system's holds.
(() => {
  let theme = null;
  try {
    theme = localStorage.getItem('satchel-theme');
  } catch {
    // Storage may be forbidden. The system's theme holds then.
  }
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
})();
