// What a reader would see wrong on a page: it is wider than the window, text lies over text, text is cut off.
// Returns a list of sentences; run by the tests inside the page.
() => {
  const found = [];
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > width)
    found.push(`page is ${document.documentElement.scrollWidth} px wide in a window of ${width}`);

  const hidden = (element) => element.closest(".hidden") !== null;
  const inScroll = (element) => element.closest(".scroll") !== null;
  const lines = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const text = node.textContent.trim();
    const parent = node.parentElement;
    if (!text || hidden(parent) || parent.closest("title, desc, style")) continue;
    const style = getComputedStyle(parent);
    if (style.visibility === "hidden" || style.display === "none") continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const box of range.getClientRects()) {
      if (box.width < 1 || box.height < 1) continue;
      // The line box is higher than its letters: what must not touch is the middle part.
      lines.push({
        node, text,
        left: box.left + 1, right: box.right - 1,
        top: box.top + box.height * 0.22, bottom: box.bottom - box.height * 0.22,
      });
      if (!inScroll(parent) && (box.right > width + 1 || box.left < -1))
        found.push(`"${text.slice(0, 40)}" reaches out of the window`);
    }
  }
  lines.sort((a, b) => a.top - b.top);
  for (let i = 0; i < lines.length; i++)
    for (let j = i + 1; j < lines.length && lines[j].top < lines[i].bottom; j++) {
      const a = lines[i], b = lines[j];
      if (a.node !== b.node && a.left < b.right && b.left < a.right && b.top < a.bottom)
        found.push(`"${a.text.slice(0, 40)}" lies over "${b.text.slice(0, 40)}"`);
    }
  for (const element of document.body.querySelectorAll("*")) {
    if (hidden(element) || inScroll(element) || element.closest("svg")) continue;
    const style = getComputedStyle(element);
    if (style.overflowX === "visible" && style.overflowY === "visible") continue;
    if (element.scrollWidth > element.clientWidth + 1 || element.scrollHeight > element.clientHeight + 1)
      found.push(`<${element.tagName.toLowerCase()} class="${element.className}"> cuts its content off`);
  }
  return [...new Set(found)].slice(0, 20);
}
