// Frames as they come: each value of `props.value` is a sprite sheet of the next few, painted at their rate.
const box = element.querySelector('.rt-live'), canvas = box.querySelector('canvas'), label = box.querySelector('p');
const context = canvas.getContext('2d');
let key = null, queue = [], timer = null, arriving = Promise.resolve();

function paint() {
  if (!box.isConnected || !queue.length) { clearInterval(timer); timer = null; return; }
  const { image, value, i } = queue.shift(), { width, height, columns } = value;
  context.drawImage(image, i % columns * width, Math.floor(i / columns) * height, width, height, 0, 0, width, height);
  box.dataset.frame = value.first + i + 1;
  if (label.textContent !== value.said) label.textContent = value.said;
}
async function take(value) {
  if (!value) return;
  box.dataset.key = value.key;
  if (!value.sprite) { label.textContent = value.said; return; }
  const image = new Image();
  image.src = value.sprite;
  await image.decode();
  if (value.key !== key) {
    key = value.key; queue = [];
    canvas.width = value.width; canvas.height = value.height;
  }
  for (let i = 0; i < value.frames; i++) queue.push({ image, value, i });
  timer ||= setInterval(paint, 1000 / value.fps);
}
const show = () => { const { value } = props; arriving = arriving.then(() => take(value)).catch(() => {}); };
watch('value', show);
show();
