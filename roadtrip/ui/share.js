// The address in the browser says what is shown, so that a link to it opens on the same: tab, models, film, start,
// horizon, recipe, seed; and of the tab's player the frame and the speed. Nothing here asks the server.
(() => {
  const asked = Object.fromEntries(new URLSearchParams(location.search));
  let tab = asked.tab || 'compare', waiting = null;
  // what a link asks for stays in the address until the page has it: the server reads it there, and not at once
  const known = { [tab]: { ...asked, tab: null } };
  // the tab is opened here: from the server it would take a visitor back who has opened another one meanwhile
  const open = tries => {
    const button = [...document.querySelectorAll('[role=tab]')].find(b => b.textContent.trim().toLowerCase() === asked.tab);
    if (button && button.getAttribute('aria-selected') === 'true') return;
    if (button) button.click();  // which goes unheard until the page has come alive
    if (tries) setTimeout(open, 100, tries - 1);
  };
  if (asked.tab) open(300);
  const write = () => {
    waiting = waiting || setTimeout(() => {  // at most four times a second, while a film plays too
      waiting = null;
      const values = Object.entries({ ...known[tab], tab }).filter(([, v]) => v !== null && v !== undefined && v !== '');
      const query = new URLSearchParams(values.map(([k, v]) => [k, String(v)]));
      if (`?${query}` !== location.search) history.replaceState(null, '', `?${query}`);
    }, 250);
  };
  // what a link asks of a player, once: the frame and the speed it was shared at
  window.rtAsked = id => {
    if (asked.taken || id !== `rt-${asked.tab || 'compare'}-player`) return {};
    asked.taken = true;
    return asked;
  };
  window.rtShare = (of, values) => { known[of] = { ...known[of], ...values }; write(); };
  window.rtTab = name => { tab = name; write(); };
  document.addEventListener('rt-frame', event => {
    const holder = event.target.closest('[id^=rt-][id$=-player]');
    const of = holder && holder.id.slice(3, -7);
    if (of) window.rtShare(of, { frame: event.detail.frame, speed: event.detail.speed });
  });
})();
