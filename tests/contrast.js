// The visible texts whose contrast with what lies behind them is below 4.5, by the formula of WCAG 2.
() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const over = (below, colour) => {
    for (const each of [`rgb(${below.join(" ")})`, colour]) {
      canvas.fillStyle = each;
      canvas.fillRect(0, 0, 1, 1);
    }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const linear = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const behind = (element) =>
    element ? over(behind(element.parentElement), getComputedStyle(element).backgroundColor) : [255, 255, 255];
  const isShown = (element) => element.checkVisibility({ opacityProperty: true, visibilityProperty: true });

  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const words = texts.currentNode.data.trim();
    const element = texts.currentNode.parentElement;
    if (!words || !isShown(element) || element.closest(":disabled, script, noscript")) continue;
    const ground = behind(element);
    const both = [luminance(over(ground, getComputedStyle(element).color)), luminance(ground)];
    const contrast = (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
    if (contrast < 4.5) found.push(`${words}: ${contrast.toFixed(2)}`);
  }
  return found;
}
