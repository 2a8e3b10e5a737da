// The view of widgets/axes_table.py. A number is static, a name is dynamic. Python decides and explains; here is only
// shown at once what follows from an edit: axes of one group have one name.
const NAME = /^[\p{L}_][\p{L}\p{N}_]*$/u;

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children); // strings become text, never markup: names come from a model
  return element;
}

function render({ model, el }) {
  setTimeout(() => keepStatic(model.widget_manager)); // the output stands in the notebook by then
  const id = `onnx-magic-${Math.random().toString(36).slice(2)}`;
  const root = make('div', { class: 'onnx-magic-axes', 'data-lm-suppress-shortcuts': 'true' });
  const told = make('div', { id: `${id}-told` }, 'A number is static, a name is dynamic; the same name means the same size.');
  const table = make('table', { 'aria-describedby': told.id });
  const region = make('div', { class: 'scroll', role: 'region', tabindex: '0', 'aria-label': 'Axes of the inputs and outputs' }, table);
  const button = make('button', { type: 'button', class: 'export' }, 'Export again');
  const status = make('span', { role: 'status', 'aria-live': 'polite', class: 'status' });
  const error = make('div', { role: 'alert', class: 'error' });
  const line = make('code', { tabindex: '0', 'aria-label': 'The magic that gives the same' });
  const copy = make('button', { type: 'button', class: 'copy' }, 'Copy');
  const same = make('div', { class: 'line', hidden: '' }, make('span', { class: 'quiet' }, 'The same without the table: '), line, copy);
  const verdict = make('div', { class: 'verdict', role: 'region', 'aria-label': 'Verdict of the export' });
  root.append(told, region, make('div', { class: 'actions' }, button, status), error, same, verdict);
  el.append(root);

  // Jupyter takes keys that reach the notebook as commands: d d deletes the cell.
  for (const type of ['keydown', 'keyup', 'keypress']) root.addEventListener(type, (event) => event.stopPropagation());

  let fields = new Map(); // "row/axis" -> { input, who, row, axis, sent }
  let shape = '';
  let number = 0;

  const cellOf = (field) => model.get('rows')[field.row].cells[field.axis];
  const pending = (field) => field.dirty || field.sent > model.get('done');

  function mark(field, text, problem) {
    field.input.dataset.kind = NAME.test(text) ? 'dynamic' : 'static';
    field.input.setAttribute('aria-invalid', String(Boolean(problem)));
    field.input.title = problem || text;
  }

  function typed(field) {
    field.dirty = true;
    const text = field.input.value.trim();
    const cell = cellOf(field);
    mark(field, text, '');
    // An axis that moves with this one has its name, or both are static: seen while it is typed.
    if (!cell.group || !(NAME.test(text) || text === cell.size)) return;
    for (const other of fields.values()) {
      const theirs = cellOf(other);
      if (other === field || theirs.group !== cell.group) continue;
      other.input.value = NAME.test(text) ? text : theirs.size;
      other.follows = true;
      mark(other, other.input.value, '');
    }
  }

  function commit(field) {
    if (!field.dirty) return;
    field.dirty = false;
    number = Math.max(number, model.get('done')) + 1;
    field.sent = number;
    const row = model.get('rows')[field.row];
    model.set('edit', { tensor: row.key, axis: field.axis, text: field.input.value, number });
    model.save_changes();
  }

  function undo(field) {
    field.dirty = false;
    for (const each of fields.values()) each.follows = false;
    fill();
  }

  function build(rows) {
    const width = Math.max(1, ...rows.map((row) => row.cells.length));
    const axes = Array.from({ length: width }, (_, axis) => `axis ${axis}`);
    const head = make('tr', {}, ...['tensor', 'role', 'dtype', ...axes, 'traced at'].map((title) => make('th', { scope: 'col' }, title)));
    const body = make('tbody');
    fields = new Map();
    rows.forEach((row, r) => {
      const tr = make('tr', row.role === 'out' && rows[r - 1]?.role === 'in' ? { class: 'first-output' } : {});
      tr.append(make('th', { scope: 'row' }, row.name), make('td', { class: 'quiet' }, row.role), make('td', {}, row.dtype));
      for (let axis = 0; axis < width; axis += 1) {
        const td = make('td');
        if (axis < row.cells.length) {
          const who = make('span', { class: 'who', id: `${id}-${r}-${axis}` });
          if (row.role === 'in') {
            const input = make('input', {
              type: 'text', size: '14', spellcheck: 'false', autocomplete: 'off', autocapitalize: 'off',
              'aria-label': `${row.name}, axis ${axis}`, 'aria-describedby': who.id,
            });
            const field = { input, who, row: r, axis, sent: 0, dirty: false, follows: false };
            input.addEventListener('input', () => typed(field));
            input.addEventListener('change', () => commit(field));
            input.addEventListener('keydown', (event) => {
              if (event.isComposing) return;
              if (event.key === 'Enter') { event.preventDefault(); commit(field); }
              if (event.key === 'Escape' && field.dirty) { event.preventDefault(); undo(field); }
            });
            fields.set(`${r}/${axis}`, field);
            td.append(input, who);
          } else {
            td.append(make('span', { class: 'out' }), who);
          }
        }
        tr.append(td);
      }
      tr.append(make('td', { class: 'quiet' }, row.traced));
      body.append(tr);
    });
    table.replaceChildren(make('thead', {}, head), body);
  }

  function fill() {
    const rows = model.get('rows');
    const now = JSON.stringify(rows.map((row) => [row.name, row.role, row.cells.length]));
    if (now !== shape) build(rows);
    shape = now;
    const waiting = [...fields.values()].some(pending);
    rows.forEach((row, r) => row.cells.forEach((cell, axis) => {
      const field = fields.get(`${r}/${axis}`);
      if (!field) {
        const span = table.tBodies[0].rows[r].cells[3 + axis].firstChild;
        span.textContent = cell.text;
        span.dataset.kind = cell.dynamic ? 'dynamic' : 'static';
        return;
      }
      if (pending(field) || (field.follows && waiting)) return; // what is being typed stays
      field.follows = false;
      field.input.value = cell.text;
      field.who.textContent = cell.error || cell.who;
      field.who.dataset.error = String(Boolean(cell.error));
      mark(field, cell.text, cell.error);
    }));
  }

  function state() {
    const busy = model.get('busy');
    status.textContent = busy ? `${busy} …` : '';
    button.setAttribute('aria-disabled', String(Boolean(busy))); // disabled would take the focus away
    root.setAttribute('aria-busy', String(Boolean(busy)));
    error.textContent = model.get('error');
    line.textContent = model.get('line');
    same.hidden = !model.get('line');
  }

  function judge() {
    verdict.innerHTML = model.get('verdict'); // display/html.py's own: every name in it is escaped
  }

  button.addEventListener('click', () => {
    if (model.get('busy')) return;
    for (const field of fields.values()) commit(field);
    model.set('asked', model.get('asked') + 1);
    model.save_changes();
  });

  copy.addEventListener('click', async () => {
    try {
      await navigator.clipboard.writeText(line.textContent);
    } catch {
      // No permission, or no secure page: select it, so that the reader's own key copies it.
      const range = document.createRange();
      range.selectNodeContents(line);
      const selection = getSelection();
      selection.removeAllRanges();
      selection.addRange(range);
      status.textContent = 'selected: copy it with your keyboard';
      return;
    }
    status.textContent = 'copied';
  });

  const watched = [['change:rows change:done', fill], ['change:busy change:error change:line', state], ['change:verdict', judge]];
  for (const [events, handler] of watched) model.on(events, handler);
  fill();
  state();
  judge();
  return () => { for (const [events, handler] of watched) model.off(events, handler); };
}

export default { render };
