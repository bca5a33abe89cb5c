// One playhead over several views, drawn on canvases from sprite sheets: scrubbing never asks the server.
// A flip at full rate flashes: nothing plays by itself for who has asked for less motion.
// Runs once at mount; `props.value` is what player.py's player_value makes.
const root = element.querySelector('.rt-player');
const views = root.querySelector('.rt-views');
const slider = root.querySelector('[data-testid=player-slider]');
const label = root.querySelector('.rt-label');
const [back, play, next, keep] = root.querySelectorAll('button');
const [speeds, ways, layouts] = root.querySelectorAll('select');
const calm = window.matchMedia('(prefers-reduced-motion: reduce)').matches;
let film = null, frame = 0, timer = null, loads = 0, forward = true, solo = -1, edge = 0.5;

// Frame t of a view, from the share x of its width to the right edge, onto a canvas of any size.
const paint = (context, view, t, x = 0) => {
  const left = (t % film.columns) * view.width, top = Math.floor(t / film.columns) * view.height;
  const { width, height } = context.canvas;
  context.imageSmoothingEnabled = false;
  if (x < 1) context.drawImage(view.image, left + x * view.width, top, (1 - x) * view.width, view.height, x * width, 0, (1 - x) * width, height);
};

// The mean of every second frame of the second half, from which the verdict is read: the two modes, made visible.
function modes(view) {
  if (view.modes) return view.modes;
  const sheet = Object.assign(document.createElement('canvas'), { width: view.width, height: view.height });
  const context = sheet.getContext('2d', { willReadFrequently: true }), first = Math.floor(view.frames / 2);
  const sums = [0, 1].map(() => new Float32Array(4 * view.width * view.height)), counts = [0, 0];
  for (let t = first; t < view.frames; t++) {
    paint(context, view, t);
    const data = context.getImageData(0, 0, view.width, view.height).data, sum = sums[t % 2];
    for (let i = 0; i < data.length; i++) sum[i] += data[i];
    counts[t % 2]++;
  }
  const means = sums.map((sum, k) => sum.map(v => v / Math.max(1, counts[k])));
  const picture = values => new ImageData(Uint8ClampedArray.from(values, (v, i) => i % 4 == 3 ? 255 : v), view.width);
  const apart = means[0].map((v, i) => 4 * Math.abs(v - means[1][i]));
  return view.modes = { even: picture(means[0]), odd: picture(means[1]), apart: picture(apart) };
}

const WORDS = { even: 'mean of the even frames', odd: 'mean of the odd frames', apart: 'their difference, four times' };
function draw() {
  if (!film) return;
  const layout = layouts.value, wipe = layout.startsWith('wipe') ? layout.split(' ').slice(1).map(Number) : null;
  film.views.forEach((view, i) => {
    const [caption, canvas] = views.children[i].children, context = canvas.getContext('2d');
    views.children[i].hidden = wipe ? i !== wipe[0] : solo >= 0 && i !== solo;
    context.clearRect(0, 0, view.width, view.height);
    if (WORDS[layout]) {
      caption.textContent = `${view.label}: ${WORDS[layout]}`;
      context.putImageData(modes(view)[layout], 0, 0);
      return;
    }
    caption.textContent = frame < view.frames ? view.label : `${view.label}: no more real frames`;
    if (frame < view.frames) paint(context, view, frame);
    if (wipe && i === wipe[0]) {
      const other = film.views[wipe[1]], x = Math.round(edge * view.width);
      caption.textContent = `${view.label} ◂ drag ▸ ${other.label}`;
      if (frame < other.frames) paint(context, other, frame, x / view.width);
      context.fillStyle = '#d98e04';
      context.fillRect(x, 0, 1, view.height);
    }
  });
  slider.value = frame;
  label.textContent = film.labels[frame] || '';
  root.dataset.frame = frame;
}
function go(to) {
  if (!film) return;
  frame = Math.max(0, Math.min(film.frames - 1, to));
  draw();
  root.dispatchEvent(new CustomEvent('rt-frame', { bubbles: true, detail: { frame, frames: film.frames, speed: +speeds.value } }));
}
function stop() { clearInterval(timer); timer = null; play.textContent = '▶'; play.setAttribute('aria-label', 'Play'); }
function tick() {
  if (!root.isConnected) return stop();
  const ended = frame >= film.frames - 1, way = ways.value;
  if (ended || frame <= 0) forward = !ended;
  if (way === 'ping-pong') go(frame + (forward ? 1 : -1));
  else if (!ended) go(frame + 1);
  else if (way === 'once') stop(); else go(0);
}
function start() {
  if (!film) return;
  if (ways.value === 'once' && frame >= film.frames - 1) go(0);
  clearInterval(timer);
  timer = setInterval(tick, 1000 / (film.fps * +speeds.value));
  play.textContent = '❚❚'; play.setAttribute('aria-label', 'Pause');
}

async function show(value) {
  const mine = ++loads;
  if (!value || !value.views) {
    stop();
    film = null; views.replaceChildren(); root.dataset.frames = 0;
    return;
  }
  const decoded = await Promise.all(value.views.map(async view => {
    const image = new Image(); image.src = view.sprite; await image.decode(); return { ...view, image };
  }));
  if (mine !== loads) return;  // a newer film came while this one was decoded
  const kept = film && film.frames === value.frames && film.key === value.key;
  const alike = film && film.views.length === value.views.length && film.views.every((v, i) => v.label === value.views[i].label);
  film = { ...value, views: decoded };
  views.replaceChildren(...film.views.map((view, i) => {
    const figure = document.createElement('figure'), canvas = document.createElement('canvas');
    const caption = document.createElement('figcaption');
    canvas.width = view.width; canvas.height = view.height; canvas.style.aspectRatio = `${view.width} / ${view.height}`;
    canvas.onpointerdown = canvas.onpointermove = event => {
      if (!layouts.value.startsWith('wipe') || !event.buttons) return;
      edge = Math.max(0, Math.min(1, event.offsetX / canvas.clientWidth));
      draw();
    };
    caption.textContent = view.label;
    figure.append(caption, canvas);
    return figure;
  }));
  if (!alike) {
    const choices = [['frames', 'side by side']];
    film.views.forEach((a, i) => film.views.forEach((b, j) => { if (i < j) choices.push([`wipe ${i} ${j}`, `wipe: ${a.label} | ${b.label}`]); }));
    if (film.frames >= 8) choices.push(...Object.entries(WORDS));
    layouts.replaceChildren(...choices.map(([value, text]) => new Option(text, value)));
    solo = -1;
  }
  const holder = root.closest('[id^=rt-]'), asked = holder && window.rtAsked ? window.rtAsked(holder.id) : {};
  if ([...speeds.options].some(o => o.value === asked.speed)) speeds.value = asked.speed;
  slider.max = film.frames - 1;
  root.dataset.frames = film.frames;
  root.dataset.loads = loads;
  if (!kept) frame = /^\d+$/.test(asked.frame) ? +asked.frame : 0;
  go(frame);
  if (!kept && film.autoplay && !calm && !timer && !asked.frame) start();
}

const jump = to => { stop(); go(to); };
back.onclick = () => jump(frame - 1);
next.onclick = () => jump(frame + 1);
play.onclick = () => timer ? stop() : start();
// what is seen now, side by side, pixel for pixel
keep.onclick = () => {
  if (!film) return;
  const seen = [...views.children].filter(figure => !figure.hidden).map(figure => figure.querySelector('canvas'));
  const sheet = document.createElement('canvas'), link = document.createElement('a');
  sheet.width = seen.reduce((sum, canvas) => sum + canvas.width + 2, -2);
  sheet.height = Math.max(...seen.map(canvas => canvas.height));
  let left = 0;
  for (const canvas of seen) { sheet.getContext('2d').drawImage(canvas, left, 0); left += canvas.width + 2; }
  link.href = sheet.toDataURL('image/png'); link.download = `roadtrip-${film.labels[frame]}.png`;
  link.click();
};
slider.oninput = () => jump(+slider.value);
speeds.onchange = () => { if (timer) start(); else go(frame); };
layouts.onchange = draw;
root.addEventListener('rt-go', event => jump(event.detail));
root.onkeydown = event => {
  if (event.target.tagName === 'SELECT' || event.ctrlKey || event.metaKey || event.altKey) return;
  const only = i => { if (film && i < film.views.length) { solo = solo === i ? -1 : i; draw(); } };
  const keys = { ArrowLeft: frame - 1, ArrowRight: frame + 1, Home: 0, End: 1e9 }, { key } = event;
  if (key === ' ' && event.target.tagName !== 'BUTTON') play.onclick();
  else if (/^[1-9]$/.test(key)) only(+key - 1);
  else if (key in keys) jump(keys[key]);
  else return;
  event.preventDefault();
};
watch('value', () => show(props.value));
show(props.value);
