// Small pictures in a row, each a button: `props.value` is what player.py's strip_value makes. A click tells the server what
// was picked; the button whose values the address holds is marked.
const box = element.querySelector('.rt-strip');
const clicked = {};  // one object for all clicks: for those that wait Gradio asks again with the data of the first
let items = [];
const mark = () => {
  items.forEach(({ picked }, i) => box.children[i].setAttribute('aria-pressed', !!window.rtHolds && window.rtHolds(box.dataset.player, picked)));
};
async function show(value) {
  if (!value || !value.items) { items = []; return box.replaceChildren(); }
  const image = new Image();
  image.src = value.sprite;
  await image.decode();
  const { width, height, columns, span } = value;
  box.dataset.player = value.player;
  box.replaceChildren(...value.items.map(({ picked, title, label }, i) => {
    const button = Object.assign(document.createElement('button'), { type: 'button', title, ariaLabel: label ? `${label}. ${title}` : `Start at ${title}` });
    const canvas = Object.assign(document.createElement('canvas'), { width: span * width, height });
    for (let k = 0; k < span; k++) {
      const t = i * span + k;
      canvas.getContext('2d').drawImage(image, t % columns * width, Math.floor(t / columns) * height, width, height, k * width, 0, width, height);
    }
    button.append(canvas);
    if (label) button.append(Object.assign(document.createElement('span'), { textContent: label }));
    button.onclick = () => {
      window.rtPick(value.player, picked);
      window.rtBusy(value.player, label ? `${label} …` : `Starting at ${title} …`);
      trigger('click', Object.assign(clicked, picked, { label }));
    };
    return button;
  }));
  items = value.items;
  mark();
}
document.addEventListener('rt-state', () => { if (box.isConnected) mark(); });
watch('value', () => show(props.value));
show(props.value);
