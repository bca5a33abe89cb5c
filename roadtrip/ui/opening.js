// The browser reads Gradio for two seconds before it shows anything. Until then the film that the page opens on stands
// here by itself, then in the place of the player, until that shows it. A link to something else opens without it.
(() => {
  if ([...new URLSearchParams(location.search).keys()].some(key => !key.startsWith('__'))) return;
  const box = document.createElement('figure'), film = document.createElement('img'), words = document.createElement('figcaption');
  box.id = 'rt-opening';
  box.style = 'position:fixed;top:12vh;left:50%;transform:translateX(-50%);width:min(1100px,94vw);margin:0;color:#888;'
    + 'font:15px system-ui,sans-serif';
  film.style = 'width:100%;border-radius:4px';
  film.setAttribute('elementtiming', 'rt-opening');
  film.alt = words.textContent = 'Two networks that drive on by themselves from two frames, and the real road. The page is being loaded.';
  film.onload = () => { if (film.naturalWidth < 2) box.remove(); };  // it has not been made yet
  film.onerror = () => box.remove();
  film.src = 'OPENING';
  box.append(film, words);
  document.addEventListener('rt-frame', () => box.remove(), { once: true });
  setTimeout(() => box.remove(), 20000);
  (document.body || document.documentElement).append(box);
  const settle = () => {
    const place = document.getElementById('rt-compare-player');
    if (!place) return box.isConnected && requestAnimationFrame(settle);
    box.style.position = 'static';
    box.style.transform = 'none';
    box.style.width = '100%';
    place.prepend(box);
  };
  settle();
})();
