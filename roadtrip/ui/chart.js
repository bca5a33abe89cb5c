// One chart, updated in place by the Plotly that ships in the plotly package. `props.value` is {src, figure, follow};
// follow = {player, first}: the player whose frame 0 lies at x = first. Its playhead is a line over the chart (no redraw
// of the chart), and a click in the chart moves it.
const box = element.querySelector('.rt-chart');
const clicked = {};  // one object for all clicks, as in strip.js
let follow = null, frame = 0, line = null;
const dark = () => document.body.classList.contains('dark') || document.documentElement.classList.contains('dark');

// Plotly takes a second to be read by the browser, in which nothing else is drawn: the first film goes before.
const film = new Promise(resolve => {
  if (document.querySelector('.rt-player[data-loads]')) return resolve();
  document.addEventListener('rt-frame', resolve, { once: true });
  setTimeout(resolve, 6000);
});
async function plotly(src) {
  await film;
  window.rtPlotly = window.rtPlotly || new Promise((resolve, reject) => {
    const script = document.createElement('script');
    script.src = src; script.onload = () => resolve(window.Plotly); script.onerror = reject;
    document.head.append(script);
  });
  return window.rtPlotly;
}
const followed = () => follow && document.querySelector(`#${follow.player} .rt-player`);
function mark() {
  const { xaxis: axis, _size: area } = box._fullLayout || {};
  if (!line) { line = document.createElement('div'); line.className = 'rt-playhead'; box.append(line); }
  const x = axis && follow ? axis.l2p(frame + follow.first) : -1;
  line.hidden = !(x >= 0 && x <= area.w);
  if (!line.hidden) Object.assign(line.style, { left: `${area.l + x}px`, top: `${area.t}px`, height: `${area.h}px` });
}
document.addEventListener('rt-frame', event => {
  if (!follow || event.target !== followed()) return;
  frame = event.detail.frame;
  if (box.dataset.drawn) mark();
});
function clear() {
  if (!box.dataset.drawn) return;
  window.Plotly.purge(box);
  delete box.dataset.on; delete box.dataset.drawn;
  if (line) line.remove();
  follow = line = null;
}
async function show(value) {
  if (!value || !value.figure) return clear();
  const Plotly = await plotly(value.src);
  const [ink, grid, ground] = dark() ? ['#ddd', '#444', '#222'] : ['#333', '#ddd', '#fff'];
  const axis = a => ({ gridcolor: grid, linecolor: grid, zerolinecolor: grid, automargin: true, ...a });
  const layout = {
    ...value.figure.layout, paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', font: { color: ink, size: 12 },
    hoverlabel: { bgcolor: ground, font: { color: ink } },
    xaxis: axis(value.figure.layout.xaxis), yaxis: axis(value.figure.layout.yaxis),
  };
  box.dataset.on = 1;  // from here on it takes its room
  // Gradio's page has a <base>, for which Plotly writes the page's whole address into its clip paths; the address here
  // changes with the view, and curves whose clip path lies at another address are not drawn.
  await Plotly.react(box, value.figure.data, layout, { displayModeBar: false, responsive: true, _baseUrl: '' });
  if (!box.dataset.drawn) {
    box.on('plotly_click', event => {
      const player = followed(), point = event.points[0];
      if (player) player.dispatchEvent(new CustomEvent('rt-go', { detail: Math.round(point.x - follow.first) }));
      else if (point.customdata) trigger('click', Object.assign(clicked, { picked: point.customdata }));
    });
    box.on('plotly_afterplot', mark);
  }
  follow = value.follow || null;
  frame = follow && followed() ? +followed().dataset.frame : 0;
  box.dataset.drawn = (+box.dataset.drawn || 0) + 1;
  mark();
}
// a chart that was drawn while its tab was closed has no width until it is seen
new ResizeObserver(() => { if (box.dataset.drawn && box.offsetWidth) window.Plotly.Plots.resize(box); }).observe(box);
watch('value', () => show(props.value));
show(props.value);
