// Small pictures of a film in a row, each a button: `props.value` is {sprite, columns, width, height, starts}, and a click
// tells the server which start was picked.
const box = element.querySelector('.rt-strip');
async function show(value) {
  if (!value || !value.starts) return box.replaceChildren();
  const image = new Image();
  image.src = value.sprite;
  await image.decode();
  box.replaceChildren(...value.starts.map((start, i) => {
    const button = document.createElement('button'), canvas = document.createElement('canvas');
    button.type = 'button';
    button.setAttribute('aria-label', `Start at frame ${start}`);
    button.title = `frame ${start}`;
    canvas.width = value.width; canvas.height = value.height;
    const [x, y] = [(i % value.columns) * value.width, Math.floor(i / value.columns) * value.height];
    canvas.getContext('2d').drawImage(image, x, y, value.width, value.height, 0, 0, value.width, value.height);
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
