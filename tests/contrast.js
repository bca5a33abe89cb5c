// Every text on the page that WCAG would call too faint (AA: 4.5 : 1, 3 : 1 for large ones), as "ratio text".
// A text on a picture or on a canvas is passed over.
() => {
  const rgba = text => { const n = (text.match(/[\d.]+/g) || []).map(Number); return n.length < 3 ? null : [...n.slice(0, 3), n[3] ?? 1]; };
  const over = (top, under) => [0, 1, 2].map(i => top[3] * top[i] + (1 - top[3]) * under[i]);
  const luminance = colour => {
    const [r, g, b] = colour.map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const chain = e => e ? [...chain(e.parentElement), e] : [];
  const middle = e => { const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; };
  const holds = (e, [x, y]) => { const b = e.getBoundingClientRect(); return b.x <= x && x <= b.right && b.y <= y && y <= b.bottom; };
  const layers = e => {  // colours from the page up to what is directly under an element; null under which is a picture
    const found = chain(e).map(p => getComputedStyle(p).backgroundColor);
    if (!e.ownerSVGElement) return found;
    const at = middle(e);
    for (const shape of e.ownerSVGElement.querySelectorAll('image, rect, circle')) {
      if (!holds(shape, at) || !(shape.compareDocumentPosition(e) & Node.DOCUMENT_POSITION_FOLLOWING)) continue;
      if (shape.tagName === 'image') return null;
      const { fill, fillOpacity } = getComputedStyle(shape);
      if (fill !== 'none' && +fillOpacity === 1) found.push(fill);
    }
    return found;
  };
  const found = [];
  const check = (e, text, style, colour) => {
    const box = e.getBoundingClientRect(), under = layers(e), ink = rgba(colour);
    if (!e.checkVisibility({ visibilityProperty: true, opacityProperty: true }) || box.width < 2 || e.disabled || !under || !ink) return;
    const ground = under.map(rgba).filter(Boolean).reduce((below, top) => over(top, below), [255, 255, 255]);
    ink[3] *= chain(e).reduce((share, p) => share * +getComputedStyle(p).opacity, 1);
    const [bright, dark] = [luminance(over(ink, ground)), luminance(ground)].sort((a, b) => b - a);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && +style.fontWeight >= 700);
    const ratio = (bright + 0.05) / (dark + 0.05);
    if (ratio < (large ? 3 : 4.5)) found.push(`${ratio.toFixed(2)} ${text.trim()}`);
  };
  for (const e of document.querySelectorAll('body *:not(script, style, option, noscript)')) {
    const style = getComputedStyle(e), own = [...e.childNodes].filter(n => n.nodeType === 3).map(n => n.textContent).join('');
    if (own.trim()) check(e, own, style, e.ownerSVGElement ? style.fill : style.color);
    if (e.matches('textarea, select, input:not([type=range], [type=checkbox], [type=file])')) {
      check(e, e.value || e.placeholder || '', style, e.value ? style.color : getComputedStyle(e, '::placeholder').color);
    }
  }
  return found;
}
