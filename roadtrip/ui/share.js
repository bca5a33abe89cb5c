// The address in the browser says what is shown, so that a link to it opens on the same: tab, models, film, start,
// horizon, recipe, seed; and of the tab's player the frame and the speed. Nothing here asks the server.
(() => {
  const asked = Object.fromEntries(new URLSearchParams(location.search));
  let tab = asked.tab || 'compare', waiting = null;
  // what a link asks for stays in the address until the page has it: the server reads it there, and not at once
  const known = { [tab]: { ...asked, tab: null } };
  const button = name => [...document.querySelectorAll('[role=tab]')].find(b => b.textContent.trim().toLowerCase() === name);
  // the tab is opened here: from the server it would take a visitor back who has opened another one meanwhile
  const open = tries => {
    const wanted = button(asked.tab);
    if (wanted && wanted.getAttribute('aria-selected') === 'true') return;
    if (wanted) wanted.click();  // which goes unheard until the page has come alive
    if (tries) setTimeout(open, 100, tries - 1);
  };
  if (asked.tab) open(300);
  const now = () => {
    clearTimeout(waiting);
    waiting = null;
    const values = Object.entries({ ...known[tab], tab }).filter(([, v]) => v !== null && v !== undefined && v !== '');
    const query = new URLSearchParams(values.map(([k, v]) => [k, String(v)]));
    if (`?${query}` !== location.search) history.replaceState(null, '', `?${query}`);
  };
  const write = () => { waiting = waiting || setTimeout(now, 250); };  // at most four times a second, while a film plays too
  const of = player => player.slice(3, -7);  // the tab of rt-tab-player
  const alike = (a, b) => String(a) === String(b);
  // what a link asks of a player, once: the frame and the speed it was shared at
  window.rtAsked = id => {
    if (asked.taken || id !== `rt-${asked.tab || 'compare'}-player`) return {};
    asked.taken = true;
    return asked;
  };
  window.rtShare = (name, values) => {
    known[name] = { ...known[name], ...values };
    write();
    document.dispatchEvent(new CustomEvent('rt-state'));
  };
  window.rtPick = (player, values) => window.rtShare(of(player), { ...values, frame: null });
  window.rtPicked = (player, name) => (known[of(player)] || {})[name];
  window.rtHolds = (player, values) => Object.entries(values).every(([k, v]) => alike((known[of(player)] || {})[k], v));
  // whether an answer belongs to what is no longer asked for; the start that it found may stand in the address already
  window.rtStale = (player, values, start) => {
    const own = known[of(player)] || {};
    const holds = (k, v) => own[k] === undefined || own[k] === null || alike(own[k], v);
    return Object.entries(values || {}).some(([k, v]) => !holds(k, v) && !(k === 'start' && holds(k, start)));
  };
  // what is shown, as the server found it
  window.rtAnswer = (player, values, start) => { if (values) window.rtShare(of(player), start === null ? values : { ...values, start }); };
  window.rtBusy = (player, text) => {
    const root = document.querySelector(`#${player} .rt-player`);
    if (root) root.dispatchEvent(new CustomEvent('rt-busy', { detail: text }));
  };
  window.rtOpen = name => { const wanted = button(name); if (wanted) wanted.click(); };
  window.rtTab = name => {
    tab = name;
    write();
    const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
    if (name !== 'drive') {  // what is not seen is not computed
      document.querySelector('#rt-live-pause')?.click();
      delete document.querySelector('.rt-live')?.dataset.key;
    } else if (!calm) drive(60);
  };
  const drive = tries => {  // the tab comes alive a moment after it was opened
    const live = document.querySelector('.rt-live');
    if (tab !== 'drive' || (live && live.dataset.key)) return;
    if (tries % 5 === 0) document.querySelector('#rt-live-go')?.click();
    if (tries) setTimeout(drive, 200, tries - 1);
  };
  window.rtShow = id => setTimeout(() => document.getElementById(id)?.scrollIntoView({ block: 'center' }), 150);
  window.rtCopy = async () => {
    now();
    let said = 'The link is copied.';
    try { await navigator.clipboard.writeText(location.href); } catch { said = `Copy this address: ${location.href}`; }
    let toast = document.querySelector('.rt-toast');
    if (!toast) document.body.append(toast = Object.assign(document.createElement('div'), { className: 'rt-toast', role: 'status' }));
    toast.textContent = said;
    setTimeout(() => toast.remove(), said.startsWith('Copy') ? 20000 : 3000);
  };
  document.addEventListener('rt-frame', event => {
    const holder = event.target.closest('[id^=rt-][id$=-player]');
    if (holder) {
      const name = of(holder.id);
      known[name] = { ...known[name], frame: event.detail.frame, speed: event.detail.speed };
      write();
    }
  });
})();
