// Runs in the sandboxed frame: waits until it is seen, unpacks Netron and the graph, draws, colours.
(async () => {
const root = document.documentElement, T0 = performance.now();
const say = (event, more) => { root.dataset.state = event; try { parent.postMessage({ source: 'onnx_magic.graph', event, ...more }, '*'); } catch { /* nobody listens */ } };
const fail = (e) => {
  const message = String(e && e.message || e);
  document.body.className = 'welcome';
  const p = document.createElement('pre'); p.id = 'onnx-magic-error'; p.style.cssText = 'padding:1em;white-space:pre-wrap';
  p.textContent = 'The graph could not be drawn: ' + message;
  document.body.replaceChildren(p); say('error', { message });
};
try {
  // The notebook's theme wins over prefers-color-scheme.
  const ground = document.createElement('style'); document.head.append(ground);
  const theme = (dark, behind) => { // Netron's own dark ground is a grey that no notebook has
    ground.textContent = /^rgb\([\d, ]+\)$/.test(behind) ? `.default, .target, .default body { background-color: ${behind} !important }` : '';
    for (const s of document.styleSheets) for (const r of s.cssRules)
      if (r.media && (r.__dark || /prefers-color-scheme/.test(r.conditionText || r.media.mediaText))) { r.__dark = true; r.media.mediaText = dark ? 'all' : 'not all'; }
    root.style.colorScheme = root.dataset.theme = dark ? 'dark' : 'light';
  };
  let shown; const printed = new Promise((ok) => { shown = ok; });
  addEventListener('message', (e) => {
    if (e.source !== parent || !e.data || e.data.target !== 'onnx_magic.graph') return;
    if ('dark' in e.data) theme(!!e.data.dark, e.data.behind);
    if (e.data.start) shown();
  });
  say('waiting');
  // Netron measures text: that needs a frame with a width. Printing does not scroll: the page around says so.
  await Promise.race([printed, new Promise((ok) => { const io = new IntersectionObserver((es) => { if (es.some((x) => x.isIntersecting && x.boundingClientRect.width > 0)) { io.disconnect(); ok(); } }); io.observe(root); })]);
  const T1 = performance.now(); say('started');
  const gunzip = async (id) => { const s = atob(document.getElementById(id).textContent.trim()); const u = new Uint8Array(s.length); for (let i = 0; i < s.length; i++) u[i] = s.charCodeAt(i); return new Uint8Array(await new Response(new Blob([u]).stream().pipeThrough(new DecompressionStream('gzip'))).arrayBuffer()); };
  const text = async (id) => new TextDecoder().decode(await gunzip(id));
  window.exports = {};
  const run = (code) => { const s = document.createElement('script'); s.textContent = code; document.head.append(s); };
  run(CFG.registry + await text('om-js'));
  const workerText = await text('om-worker'), metadata = await text('om-meta'), bytes = await gunzip('om-model');
  const N = window.__netron, base = N.require('base'); N.require('view'); N.require('browser');
  const { browser, view } = window.exports, memory = new Map();
  let serial = false;
  const url = URL.createObjectURL(new Blob([CFG.registry, workerText, "__netron.require('worker');"], { type: 'text/javascript' }));
  try { // a policy may forbid blob: workers; then the layout runs in the frame itself
    await new Promise((ok, no) => { const w = new Worker(url); w.onerror = no; w.addEventListener('message', () => { w.terminate(); ok(); }); w.postMessage({ type: 'dagre.layout', nodes: [], edges: [], layout: {}, state: {} }); setTimeout(() => no(new Error('worker')), 4000); });
  } catch { serial = true; run(workerText); }
  const colours = new Map(CFG.colours);
  const paint = () => { for (const n of document.querySelectorAll('#canvas .node')) {
    const colour = colours.get(n.id.replace(/^node-name-/, '')); if (!colour) continue;
    n.dataset.highlight = colour[0];
    for (const p of n.querySelectorAll('.node-item-type path')) p.style.fill = colour[0];
    for (const t of n.querySelectorAll('.node-item-type text')) t.style.fill = colour[1];
  } };
  // Its base owns every contact with the outside: none of them is left.
  class Host extends browser.Host {
    constructor() { const e = window.eval; super(); window.eval = e; Object.assign(this._environment, { serial, type: 'Notebook', packaged: false, version: CFG.version }); }
    async view(v) { this._view = v; }
    async start() {
      this._view.show('welcome spinner');
      const stream = new base.BinaryStream(bytes), ctx = new browser.Context(this, '', CFG.file, CFG.file, stream);
      const status = await this._openContext(ctx);
      const count = document.querySelectorAll('#canvas .node').length;
      if (status !== '' || !count) { fail(new Error(status || 'nothing was drawn')); return; }
      if (colours.size) { paint(); new MutationObserver(paint).observe(document.getElementById('target'), { childList: true, subtree: true }); }
      root.dataset.seconds = ((performance.now() - T1) / 1000).toFixed(2);
      say('drawn', { nodes: count, serial, ms: Math.round(performance.now() - T0) });
    }
    async require(id) { return N.import(id.replace(/^\.\//, '')); }
    worker() { return new Worker(url); }
    async asset(file) { if (file === 'onnx-metadata.json') return metadata; throw new Error(file + ' is not bundled'); }
    async _request(u) { throw new Error('This view is offline: ' + u); }
    get(k) { return memory.get(k); } set(k, v) { memory.set(k, v); } delete(k) { memory.delete(k); }
    exception(e) { console.warn('netron', e); } event() {}
    async message(text, alert, action) { if (alert) { fail(new Error(text)); return new Promise(() => {}); } return super.message(text, alert, action); }
    openURL(u) { window.open(u, '_blank', 'noopener'); }
  }
  addEventListener('error', (e) => say('error', { message: e.message }));
  window.__view__ = new view.View(new Host());
  await window.__view__.start();
} catch (e) { console.error(e); fail(e); }
})();
