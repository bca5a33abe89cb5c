// One playhead over several views, drawn on canvases from sprite sheets: scrubbing never asks the server.
// Nothing plays by itself for who has asked for less motion, nor what would flash more than three times a second.
// Runs once at mount; `props.value` is what player.py's player_value makes, or {busy}, or {error}.
const root = element.querySelector('.rt-player');
const views = root.querySelector('.rt-views');
const [headline, busy, warning] = ['.rt-headline', '.rt-busy', '.rt-warning'].map(name => root.querySelector(name));
const slider = root.querySelector('[data-testid=player-slider]');
const label = root.querySelector('.rt-label');
const [back, play, next, keep] = root.querySelectorAll('button');
const [speeds, ways, layouts] = root.querySelectorAll('select');
const holder = root.closest('[id^=rt-]').id;
const calm = window.matchMedia('(prefers-reduced-motion: reduce)');
let film = null, frame = 0, timer = null, loads = 0, forward = true, solo = -1, edge = 0.5, dared = false, turn;

// Frame t of a view, from the share x of its width to the right edge, onto a canvas of any size.
const paint = (context, view, t, x = 0) => {
  t %= view.frames;
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

// Whether a quarter of a view flashes more than three times a second at this rate (WCAG 2.3.1: a flash is a pair of
// opposing changes of relative luminance by 0.1 or more where the darker is below 0.8). Read from 16×9 cells.
function flashes(view, rate) {
  const perSecond = Math.round(rate);
  if (perSecond <= 6) return false;  // six changes a second are three flashes
  if (!view.turns) {
    const cells = Object.assign(document.createElement('canvas'), { width: 16, height: 9 });
    const context = cells.getContext('2d', { willReadFrequently: true });
    const linear = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const held = [], way = new Int8Array(144);
    view.turns = [];  // for each frame, which cells turned
    for (let t = 0; t < view.frames; t++) {
      const left = (t % film.columns) * view.width, top = Math.floor(t / film.columns) * view.height;
      context.drawImage(view.image, left, top, view.width, view.height, 0, 0, 16, 9);
      const data = context.getImageData(0, 0, 16, 9).data, turned = new Uint8Array(144);
      for (let i = 0; i < 144; i++) {
        const light = 0.2126 * linear(data[4 * i]) + 0.7152 * linear(data[4 * i + 1]) + 0.0722 * linear(data[4 * i + 2]);
        const change = light - (held[i] ?? light), sign = Math.sign(change);
        if (Math.abs(change) >= 0.1 && Math.min(light, held[i]) < 0.8 && sign !== way[i]) { way[i] = sign; turned[i] = 1; }
        if (turned[i] || held[i] === undefined || (sign === way[i] && sign)) held[i] = light;
      }
      view.turns.push(turned);
    }
  }
  const counts = new Int16Array(144);
  for (let t = 0; t < view.frames; t++) {
    for (let i = 0; i < 144; i++) counts[i] += view.turns[t][i] - (t >= perSecond ? view.turns[t - perSecond][i] : 0);
    if (counts.filter(n => n > 6).length >= 36) return true;
  }
  return false;
}
const dangerous = () => film && film.views.some(view => flashes(view, film.fps * +speeds.value));

const WORDS = { even: 'mean of the even frames', odd: 'mean of the odd frames', apart: 'their difference, four times' };
function draw() {
  if (!film) return;
  const layout = layouts.value, wipe = layout.startsWith('wipe') ? layout.split(' ').slice(1).map(Number) : null;
  film.views.forEach((view, i) => {
    const figure = views.children[i], canvas = figure.querySelector('canvas'), context = canvas.getContext('2d');
    const caption = figure.querySelector('b');
    figure.hidden = wipe ? i !== wipe[0] : solo >= 0 && i !== solo;
    context.clearRect(0, 0, view.width, view.height);
    if (WORDS[layout]) {
      caption.textContent = `${view.label}: ${WORDS[layout]}`;
      context.putImageData(modes(view)[layout], 0, 0);
      return;
    }
    caption.textContent = frame < view.frames ? view.label : `${view.label}: no more real frames, shown again`;
    paint(context, view, frame);
    if (wipe && i === wipe[0]) {
      const other = film.views[wipe[1]], x = Math.round(edge * view.width);
      caption.textContent = `${view.label} ◂ drag ▸ ${other.label}`;
      paint(context, other, frame, x / view.width);
      context.fillStyle = '#d98e04';
      context.fillRect(x, 0, 1, view.height);
    }
  });
  slider.value = frame;
  slider.setAttribute('aria-valuetext', film.labels[frame] || '');
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
  if (!root.offsetParent) return;  // in a tab that is closed nothing moves
  const ended = frame >= film.frames - 1, way = ways.value;
  if (ended || frame <= 0) forward = !ended;
  if (way === 'ping-pong') go(frame + (forward ? 1 : -1));
  else if (!ended) go(frame + 1);
  else if (way === 'once') stop(); else go(film.begin || 0);
}
function start() {
  if (!film) return;
  if (ways.value === 'once' && frame >= film.frames - 1) go(0);
  clearInterval(timer);
  timer = setInterval(tick, 1000 / (film.fps * +speeds.value));
  play.textContent = '❚❚'; play.setAttribute('aria-label', 'Pause');
}
// What flashes too fast stands still until it is asked for twice.
function warn() {
  warning.hidden = !dangerous() || dared;
  if (!warning.hidden) {
    warning.textContent = `At ${speeds.value}× this film flashes more than three times a second, which can harm people with photosensitive epilepsy. Play again to see it even so.`;
    stop();
  }
  return !warning.hidden;
}

function say(text, share) {
  busy.hidden = !text;
  busy.textContent = text || '';
  if (share) busy.style.setProperty('--share', `${100 * share}%`); else busy.style.removeProperty('--share');
  root.classList.toggle('rt-dim', !!text);
  root.setAttribute('aria-busy', !!text);
}
function clear(text) {
  stop();
  film = null; views.replaceChildren(); root.dataset.frames = 0;
  headline.textContent = text || '';
  warning.hidden = true;
}
// The film dims as soon as another one is asked for, and says so.
root.addEventListener('rt-busy', event => { if (film) stop(); say(event.detail ?? 'Getting ready …'); });

function figure_of(view) {
  const figure = document.createElement('figure'), canvas = document.createElement('canvas');
  const caption = document.createElement('figcaption'), name = document.createElement('b'), said = document.createElement('span');
  canvas.width = view.width; canvas.height = view.height; canvas.style.aspectRatio = `${view.width} / ${view.height}`;
  canvas.setAttribute('role', 'img');
  canvas.setAttribute('aria-label', `${view.label}${view.said ? ': ' + view.said : ''}`);
  canvas.onpointerdown = canvas.onpointermove = event => {
    if (!layouts.value.startsWith('wipe') || !event.buttons) return;
    edge = Math.max(0, Math.min(1, event.offsetX / canvas.clientWidth));
    draw();
  };
  name.textContent = view.label; said.textContent = view.said;
  caption.append(name, said);
  figure.append(caption, canvas);
  return figure;
}

async function show(value) {
  if (value && value.turn !== undefined && value.turn === turn) return;  // gradio gives the last of a stream twice
  turn = value && value.turn;
  if (value && value.busy) return say(`${value.busy.what}: ${value.busy.done} of ${value.busy.of} frames`, value.busy.done / value.busy.of);
  const mine = ++loads;
  if (!value || !value.views) { say(''); return clear(value && value.error); }
  if (window.rtStale && window.rtStale(holder, value.asked, value.start)) return;  // something else was asked for meanwhile
  const decoded = await Promise.all(value.views.map(async view => {
    const image = new Image(); image.src = view.sprite; await image.decode(); return { ...view, image };
  }));
  if (mine !== loads) return;  // a newer film came while this one was decoded
  say('');
  const kept = film && film.frames === value.frames && film.key === value.key;
  const many = film ? film.views.length : 0, layout = layouts.value;
  film = { ...value, views: decoded };
  dared = false;
  headline.textContent = film.headline || '';
  views.dataset.views = film.views.length;
  views.replaceChildren(...film.views.map(figure_of));
  const choices = [['frames', 'side by side']];
  film.views.forEach((a, i) => film.views.forEach((b, j) => { if (i < j) choices.push([`wipe ${i} ${j}`, `wipe: ${a.label} | ${b.label}`]); }));
  if (film.frames >= 8) choices.push(...Object.entries(WORDS));
  layouts.replaceChildren(...choices.map(([value, text]) => new Option(text, value)));
  layouts.value = choices.some(([value]) => value === layout) ? layout : 'frames';
  if (many !== film.views.length) solo = -1;
  const asked = window.rtAsked ? window.rtAsked(holder) : {};
  if ([...speeds.options].some(o => o.value === asked.speed)) speeds.value = asked.speed;
  if (window.rtAnswer) window.rtAnswer(holder, value.asked, value.start);
  slider.max = film.frames - 1;
  root.dataset.frames = film.frames;
  root.dataset.loads = loads;
  const wanted = /^\d+$/.test(asked.frame) ? +asked.frame : null;
  if (!kept) frame = wanted ?? film.begin ?? 0;
  go(frame);
  if (warn()) return;
  if (kept) { if (timer) start(); }
  else if (film.autoplay && !calm.matches && wanted === null) start();
  else if (film.autoplay && calm.matches) stop();
}

const jump = to => { stop(); if (to < film?.begin) film.begin = 0; go(to); };
back.onclick = () => jump(frame - 1);
next.onclick = () => jump(frame + 1);
play.onclick = () => {
  if (timer) return stop();
  if (!warning.hidden) { dared = true; warning.hidden = true; }
  if (!warn()) start();
};
// What is seen now, side by side, labelled, at least 1280 pixels wide; pixels are repeated, never smoothed.
keep.onclick = () => {
  if (!film) return;
  const seen = film.views.map((view, i) => [view, views.children[i]]).filter(([, figure]) => !figure.hidden);
  const gap = 8, each = Math.ceil((1280 - gap * (seen.length - 1)) / seen.length);
  const parts = seen.map(([view, figure]) => ({ view, canvas: figure.querySelector('canvas'), times: Math.ceil(each / view.width), text: figure.querySelector('b').textContent }));
  const sheet = document.createElement('canvas'), link = document.createElement('a'), context = sheet.getContext('2d');
  sheet.width = parts.reduce((sum, part) => sum + part.times * part.view.width + gap, -gap);
  sheet.height = 64 + Math.max(...parts.map(part => part.times * part.view.height));
  context.fillStyle = '#141414'; context.fillRect(0, 0, sheet.width, sheet.height);
  context.fillStyle = '#fff'; context.imageSmoothingEnabled = false;
  let left = 0;
  for (const { view, canvas, times, text } of parts) {
    context.font = 'bold 20px system-ui, sans-serif'; context.fillText(`${text} ${film.labels[frame]}`, left + 6, 24, times * view.width - 12);
    context.font = '18px system-ui, sans-serif'; context.fillText(view.said, left + 6, 50, times * view.width - 12);
    context.drawImage(canvas, left, 64, times * view.width, times * view.height);
    left += times * view.width + gap;
  }
  link.href = sheet.toDataURL('image/png'); link.download = `roadtrip-${film.labels[frame]}.png`;
  link.click();
};
slider.oninput = () => jump(+slider.value);
speeds.onchange = () => { dared = false; if (!warn() && timer) start(); go(frame); };
layouts.onchange = draw;
root.addEventListener('rt-go', event => jump(event.detail));
root.onkeydown = event => {
  if (event.target.tagName === 'SELECT' || event.ctrlKey || event.metaKey || event.altKey) return;
  const only = i => { if (film && i < film.views.length) { solo = solo === i ? -1 : i; draw(); } };
  const slide = by => { edge = Math.max(0, Math.min(1, edge + by)); draw(); };
  const keys = { ArrowLeft: frame - 1, ArrowRight: frame + 1, Home: 0, End: 1e9 }, { key } = event;
  if (event.shiftKey && layouts.value.startsWith('wipe') && key.startsWith('Arrow')) slide(key === 'ArrowLeft' ? -0.05 : 0.05);
  else if (key === ' ' && event.target.tagName !== 'BUTTON') play.onclick();
  else if (/^[1-9]$/.test(key)) only(+key - 1);
  else if (key in keys) jump(keys[key]);
  else return;
  event.preventDefault();
};
calm.addEventListener('change', () => { if (calm.matches) stop(); });
watch('value', () => show(props.value));
show(props.value);
