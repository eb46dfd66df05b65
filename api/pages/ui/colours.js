// Before anything is painted: the colours that were chosen here before, so that the page does not flash.
try {
  const chosen = localStorage.getItem("sluice.colours");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.colours = chosen;
} catch {
  // Without a store the system's colours are as good.
}
