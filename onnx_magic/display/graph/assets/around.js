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
for (const f of scope.querySelectorAll('iframe[data-onnx-magic=graph]')) {
  if (f.onnxMagic) continue;
  f.onnxMagic = true;
  const post = (what) => f.contentWindow && f.contentWindow.postMessage({ target: 'onnx_magic.graph', ...what }, '*');
  const send = () => post({ dark: dark() });
  let answered = false, timer = 0;
  const instead = (why) => {
    const note = f.nextElementSibling, tables = f.previousElementSibling;
    if (tables && tables.tagName === 'DETAILS') tables.open = true;
    if (note && note.hidden) { note.hidden = false; note.textContent = 'The graph is not drawn: ' + why + '. Its tensors and operators are in the tables.'; }
    f.style.display = 'none';
  };
  addEventListener('message', (e) => {
    if (e.source !== f.contentWindow || !e.data || e.data.source !== 'onnx_magic.graph') return;
    answered = true;
    if (e.data.event === 'waiting') send();
    if (e.data.event === 'started') timer = setTimeout(() => instead('no answer for 60 seconds'), 60000);
    if (e.data.event === 'drawn') clearTimeout(timer);
    if (e.data.event === 'error') { clearTimeout(timer); instead(String(e.data.message).slice(0, 300)); }
  });
  f.addEventListener('load', () => { send(); setTimeout(() => { if (!answered) instead('the frame does not answer'); }, 20000); });
  send();
  addEventListener('beforeprint', () => post({ start: true }));
  const o = new MutationObserver(send);
  o.observe(document.body, { attributes: true, attributeFilter: ['data-jp-theme-light', 'data-vscode-theme-kind', 'class'] });
  o.observe(document.documentElement, { attributes: true, attributeFilter: ['theme'] });
}
})();
