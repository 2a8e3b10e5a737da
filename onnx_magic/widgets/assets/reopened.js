// Put before the view of each widget (`script` in widgets/axes_table.py). A notebook that is opened without its kernel keeps the view's
// output, and jupyterlab_widgets shows "Error displaying widget: model not found" in its place, below the static form.
// So the notebook's metadata, where JupyterLab looks for models that no kernel has, gets an empty one of the same id: a
// live one goes before it. It hides itself, and with it the sign for a lost kernel. Only where the notebook can be reached: JupyterLab and Notebook 7.
const VIEW = 'application/vnd.jupyter.widget-view+json';
const STATE = 'application/vnd.jupyter.widget-state+json';
const EMPTY = { model_name: 'HTMLModel', model_module: '@jupyter-widgets/controls', model_module_version: '2.0.0', state: { value: '<style>.onnx-magic-gone { display: none }</style>', _dom_classes: ['onnx-magic-gone'] } };

const told = new WeakSet();

function keepStatic(manager) {
  const context = manager?.context;
  // On a busy machine the output may not stand in the notebook yet; when the notebook is saved, it does.
  if (context?.saveState && !told.has(context)) {
    told.add(context);
    context.saveState.connect((_, step) => { if (step === 'started') putEmpty(manager); });
  }
  putEmpty(manager);
}

function putEmpty(manager) {
  const notebook = manager?.context?.model;
  if (typeof notebook?.setMetadata !== 'function' || !notebook.cells) return;
  // The manager does not tell a view its model's id: all ids that stand in outputs are looked through.
  const shown = new Set();
  for (const cell of notebook.cells) {
    const outputs = cell.outputs;
    for (let n = 0; n < (outputs?.length ?? 0); n += 1) {
      const data = outputs.get(n).data;
      if (data?.[VIEW]?.model_id && /^(AxesTable|Playground)\(/.test([].concat(data['text/plain'] ?? '').join(''))) shown.add(data[VIEW].model_id);
    }
  }
  const kept = notebook.getMetadata('widgets') ?? {};
  const before = kept[STATE]?.state ?? {};
  const isOurs = (entry) => entry?.state?._dom_classes?.includes('onnx-magic-gone');
  const others = Object.fromEntries(Object.entries(before).filter(([id, entry]) => !isOurs(entry) || shown.has(id)));
  const state = { ...Object.fromEntries([...shown].map((id) => [id, EMPTY])), ...others };
  if (Object.keys(state).length === Object.keys(before).length && Object.keys(state).every((id) => id in before)) return;
  notebook.setMetadata('widgets', { ...kept, [STATE]: { version_major: 2, version_minor: 0, ...kept[STATE], state } });
}
