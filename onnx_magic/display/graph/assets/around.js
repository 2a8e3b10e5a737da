// Runs in the notebook's page, beside the frame: tells it the theme, and shows the tables when it does not answer.
(() => {
const scope = document.currentScript && document.currentScript.parentNode || document;
const dark = () => {
  const b = document.body, h = document.documentElement;
  if (b.dataset.jpThemeLight) return b.dataset.jpThemeLight === 'false';
  if (b.dataset.vscodeThemeKind) return /dark|high-contrast$/.test(b.dataset.vscodeThemeKind);
  if (h.getAttribute('theme')) return h.getAttribute('theme') === 'dark';
  return matchMedia('(prefers-color-scheme: dark)').matches;
};
const behind = (element) => { // the colour that the frame stands on; empty where nothing has one
  for (let e = element.parentElement; e; e = e.parentElement) {
    const colour = getComputedStyle(e).backgroundColor;
    if (/^rgb\(/.test(colour)) return colour;
  }
  return '';
};
for (const f of scope.querySelectorAll('iframe[data-onnx-magic=graph]')) {
  if (f.onnxMagic) continue;
  f.onnxMagic = true;
  const post = (what) => f.contentWindow && f.contentWindow.postMessage({ target: 'onnx_magic.graph', ...what }, '*');
  const send = () => post({ dark: dark(), behind: behind(f) });
  const [toAnswer, toDraw] = (f.dataset.patience || '20 60').split(' ').map(Number); // seconds
  const note = f.nextElementSibling, tables = f.previousElementSibling;
  let answered = false, timer = 0;
  const look = (styles) => Object.assign(f.style, styles);
  // On a busy machine an answer may come late, and the graph is shown after all: until then it is not seen, but laid out.
  const unseen = { position: 'absolute', opacity: '0', zIndex: '-1', pointerEvents: 'none' };
  const instead = (why, styles) => {
    if (tables && tables.tagName === 'DETAILS') tables.open = true;
    if (note) { note.hidden = false; note.textContent = 'The graph is not drawn: ' + why + '. Its tensors and operators are in the tables.'; }
    look(styles);
  };
  const back = () => { if (note) note.hidden = true; look({ position: '', opacity: '', zIndex: '', pointerEvents: '' }); };
  addEventListener('message', (e) => {
    if (e.source !== f.contentWindow || !e.data || e.data.source !== 'onnx_magic.graph') return;
    const event = e.data.event;
    answered = true;
    clearTimeout(timer);
    if (event === 'waiting') { send(); back(); }
    if (event === 'started') timer = setTimeout(() => instead('no answer for ' + toDraw + ' seconds', unseen), toDraw * 1000);
    if (event === 'drawn') back();
    if (event === 'error') instead(String(e.data.message).slice(0, 300), { display: 'none' });
  });
  f.addEventListener('load', send);
  setTimeout(() => { if (!answered && f.isConnected) instead('the frame does not answer', unseen); }, toAnswer * 1000);
  send();
  addEventListener('beforeprint', () => post({ start: true }));
  const o = new MutationObserver(send);
  o.observe(document.body, { attributes: true, attributeFilter: ['data-jp-theme-light', 'data-vscode-theme-kind', 'class'] });
  o.observe(document.documentElement, { attributes: true, attributeFilter: ['theme'] });
}
})();
