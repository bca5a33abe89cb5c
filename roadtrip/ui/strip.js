// Small pictures of a film in a row, each a button: `props.value` is {sprite, columns, width, height, starts}, and a click
// tells the server which start was picked.
const box = element.querySelector('.rt-strip');
async function show(value) {
  if (!value || !value.starts) return box.replaceChildren();
  const image = new Image();
  image.src = value.sprite;
  await image.decode();
  box.replaceChildren(...value.starts.map((start, i) => {
    const { width, height, columns } = value, title = `frame ${start}`;
    const button = Object.assign(document.createElement('button'), { type: 'button', title, ariaLabel: `Start at ${title}` });
    const canvas = Object.assign(document.createElement('canvas'), { width, height });
    canvas.getContext('2d').drawImage(image, i % columns * width, Math.floor(i / columns) * height, width, height, 0, 0, width, height);
    button.append(canvas);
    button.onclick = () => {
      box.querySelectorAll('button').forEach(b => b.setAttribute('aria-pressed', b === button));
      trigger('click', { start });
    };
    return button;
  }));
}
watch('value', () => show(props.value));
show(props.value);
