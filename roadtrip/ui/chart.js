// One chart, updated in place by the Plotly that ships in the plotly package. `props.value` is {src, figure}.
const box = element.querySelector('.rt-chart');
const dark = () => document.body.classList.contains('dark') || document.documentElement.classList.contains('dark');

function plotly(src) {
  window.rtPlotly = window.rtPlotly || new Promise((resolve, reject) => {
    const script = document.createElement('script');
    script.src = src; script.onload = () => resolve(window.Plotly); script.onerror = reject;
    document.head.append(script);
  });
  return window.rtPlotly;
}
async function show(value) {
  if (!value || !value.figure) return;
  const Plotly = await plotly(value.src);
  const ink = dark() ? '#ddd' : '#333', grid = dark() ? '#444' : '#ddd';
  const axis = a => ({ gridcolor: grid, linecolor: grid, zerolinecolor: grid, automargin: true, ...a });
  const layout = {
    ...value.figure.layout, paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', font: { color: ink, size: 12 },
    hoverlabel: { bgcolor: dark() ? '#222' : '#fff', font: { color: ink } },
    xaxis: axis(value.figure.layout.xaxis), yaxis: axis(value.figure.layout.yaxis),
  };
  box.dataset.on = 1;  // from here on it takes its room
  await Plotly.react(box, value.figure.data, layout, { displayModeBar: false, responsive: true });
  box.dataset.drawn = (+box.dataset.drawn || 0) + 1;
}
// a chart that was drawn while its tab was closed has no width until it is seen
new ResizeObserver(() => { if (box.dataset.drawn && box.offsetWidth) window.Plotly.Plots.resize(box); }).observe(box);
watch('value', () => show(props.value));
show(props.value);
