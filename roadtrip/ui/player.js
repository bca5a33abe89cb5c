// One playhead over several views, drawn on canvases from sprite sheets: scrubbing never asks the server.
// A flip at full rate flashes: nothing plays by itself for who has asked for less motion.
// Runs once at mount; `props.value` is the payload that player.py makes.
const root = element.querySelector('.rt-player');
const views = root.querySelector('.rt-views');
const slider = root.querySelector('input');
const label = root.querySelector('.rt-label');
const [back, play, next] = root.querySelectorAll('button');
const calm = window.matchMedia('(prefers-reduced-motion: reduce)').matches;
let film = null, frame = 0, timer = null, loads = 0;

function draw() {
  if (!film) return;
  film.views.forEach((view, i) => {
    const [caption, canvas] = views.children[i].children, context = canvas.getContext('2d');
    context.clearRect(0, 0, film.width, film.height);
    caption.textContent = frame < view.frames ? view.label : `${view.label}: the film has ended`;
    if (frame >= view.frames) return;
    const x = (frame % film.columns) * film.width, y = Math.floor(frame / film.columns) * film.height;
    context.drawImage(view.image, x, y, film.width, film.height, 0, 0, film.width, film.height);
  });
  slider.value = frame;
  label.textContent = film.labels[frame] || '';
  root.dataset.frame = frame;
}
function go(to) { if (film) { frame = Math.max(0, Math.min(film.frames - 1, to)); draw(); } }
function stop() { clearInterval(timer); timer = null; play.textContent = '▶'; play.setAttribute('aria-label', 'Play'); }
function start() {
  if (!film) return;
  timer = setInterval(() => root.isConnected ? go(frame + 1 < film.frames ? frame + 1 : 0) : stop(), 1000 / film.fps);
  play.textContent = '❚❚'; play.setAttribute('aria-label', 'Pause');
}

async function show(value) {
  const mine = ++loads;
  if (!value || !value.views) return;
  const images = await Promise.all(value.views.map(async view => {
    const image = new Image(); image.src = view.sprite; await image.decode(); return image;
  }));
  if (mine !== loads) return;  // a newer film came while this one was decoded
  const kept = film && film.frames === value.frames && film.key === value.key;
  film = { ...value, views: value.views.map((view, i) => ({ ...view, image: images[i] })) };
  views.replaceChildren(...film.views.map(view => {
    const figure = document.createElement('figure'), canvas = document.createElement('canvas');
    const caption = document.createElement('figcaption');
    canvas.width = film.width; canvas.height = film.height; caption.textContent = view.label;
    figure.append(caption, canvas);
    return figure;
  }));
  slider.max = film.frames - 1;
  root.dataset.frames = film.frames;
  root.dataset.loads = loads;
  if (!kept) frame = 0;
  go(frame);
  if (!kept && film.autoplay && !calm && !timer) start();
}

back.onclick = () => { stop(); go(frame - 1); };
next.onclick = () => { stop(); go(frame + 1); };
play.onclick = () => timer ? stop() : start();
slider.oninput = () => { stop(); go(+slider.value); };
root.onkeydown = event => {
  const keys = { ArrowLeft: () => go(frame - 1), ArrowRight: () => go(frame + 1), Home: () => go(0), End: () => go(1e9) };
  if (event.key === ' ' && event.target.tagName !== 'BUTTON') { event.preventDefault(); timer ? stop() : start(); }
  else if (keys[event.key]) { event.preventDefault(); stop(); keys[event.key](); }
};
watch('value', () => show(props.value));
show(props.value);
