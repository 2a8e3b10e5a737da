// The view of widgets/playground.py. Python answers and explains; here a run is asked for, one at a time: what is typed
// while one is under way is asked for when that one is done, and only the last of it.
const PAUSE = 500; // milliseconds without a key until a text is run
const LARGEST = 8e6; // bytes of an upload: servers refuse larger messages

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children); // strings become text, never markup: names come from a model
  return element;
}

function render({ model, el }) {
  setTimeout(() => keepStatic(model.widget_manager)); // the output stands in the notebook by then
  const id = `onnx-magic-${Math.random().toString(36).slice(2)}`;
  const form = model.get('form');
  const fields = new Map(); // name -> the element that is filled in
  const notes = new Map(); // place -> where its problem is explained
  let wanted = null; // what to ask for next: { type, ... }
  let number = 0;
  let waiting = 0; // the number that an answer is expected for
  let timer = 0;
  let edited = false; // what stands in the fields was not asked for yet
  let upload = null;
  const drawn = new Map();

  function labelled(name, title, control, hint = '', wide = false) {
    const note = make('div', { class: 'note', id: `${id}-${name}-note` }, hint);
    note.dataset.hint = hint;
    control.id = `${id}-${name}`;
    control.setAttribute('aria-describedby', note.id);
    notes.set(name, { note, control });
    return make('div', { class: wide ? 'field wide' : 'field' }, make('label', { for: control.id }, title), control, note);
  }

  function line(attributes = {}) {
    return make('input', { type: 'text', spellcheck: 'false', autocomplete: 'off', autocapitalize: 'off', ...attributes });
  }

  function isShort(field) {
    return field.kind === 'size' || field.kind === 'option';
  }

  function control(field) {
    if (field.kind === 'lines') {
      const box = make('textarea', { rows: '2', spellcheck: 'false' });
      box.addEventListener('input', () => fit(box));
      return box;
    }
    if (isShort(field)) return line({ inputmode: field.name === 'temperature' ? 'decimal' : 'numeric', size: '6', class: 'short' });
    return line(field.kind === 'expression' ? { class: 'code' } : {});
  }

  function fit(box) {
    box.rows = Math.min(8, Math.max(1, box.value.split('\n').length));
  }

  const inputs = make('div', { class: 'inputs', role: 'group', 'aria-label': 'Inputs' });
  for (const field of form.fields) {
    const element = control(field);
    fields.set(field.name, element);
    const filled = labelled(field.name, field.label, element, field.hint, !isShort(field));
    inputs.append(field.optional ? make('details', { class: 'wide' }, make('summary', {}, `with a ${field.label}`), filled) : filled);
    element.addEventListener('input', () => typed(field));
    element.addEventListener('keydown', (event) => entered(event, field));
    if (field.kind === 'image' || field.kind === 'sound') inputs.append(picker(element, field));
  }

  function picker(path, field) {
    const accept = field.kind === 'image' ? 'image/*' : 'audio/*';
    const file = make('input', { type: 'file', accept, id: `${id}-file` });
    file.addEventListener('change', async () => {
      const [picked] = file.files;
      if (!picked) return;
      if (picked.size > LARGEST) {
        explain({ place: field.name, what: `${picked.name} is larger than 8 MB`, fix: 'give its path instead' });
        return;
      }
      upload = await picked.arrayBuffer();
      path.value = '';
      ask();
    });
    path.addEventListener('input', () => { upload = null; file.value = ''; });
    return make('div', { class: 'field wide' }, make('label', { for: file.id }, 'or upload one'), file);
  }

  const run = make('button', { type: 'button', class: 'run' }, 'Run');
  const status = make('span', { role: 'status', 'aria-live': 'polite', class: 'status' });
  const problem = make('div', { role: 'alert', class: 'problem' });
  const stream = make('pre', { class: 'stream', 'aria-label': 'Text so far', hidden: '' });

  const chosen = new Map(); // name -> its control
  function choice(name, title, element, hint = '') {
    chosen.set(name, element);
    element.addEventListener('change', () => look(name, element.value));
    element.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && !event.isComposing && element.tagName === 'INPUT') {
        event.preventDefault();
        look(name, element.value);
      }
    });
    return labelled(name, title, element, hint);
  }
  const sample = choice('sample', 'sample', make('select'));
  const topK = choice('top_k', 'top-k', line({ inputmode: 'numeric', class: 'short', placeholder: 'auto' }));
  const output = choice('output', 'output tensor', make('select'));
  const atol = choice('atol', 'atol', line({ class: 'short', placeholder: 'export’s' }));
  const rtol = choice('rtol', 'rtol', line({ class: 'short', placeholder: 'export’s' }));

  const answers = make('div', { class: 'answers' });
  const times = make('div', { class: 'times' });
  const tensor = make('div', { class: 'tensor' });
  const tensors = make('div', { class: 'tensors' },
    make('h4', {}, 'Output tensor'),
    make('div', { class: 'choices', role: 'group', 'aria-label': 'What is shown of the tensors' }, output, atol, rtol), tensor);
  const results = make('div', { class: 'results', role: 'region', 'aria-label': 'Answers' },
    make('div', { class: 'choices', role: 'group', 'aria-label': 'What is shown of the answers' }, topK, sample), answers,
    make('h4', {}, form.streams ? 'Tokens per second' : 'Time'), times, tensors);
  const root = make('div', { class: 'onnx-magic-play', 'data-lm-suppress-shortcuts': 'true', role: 'group', 'aria-label': `Try ${model.get('name')}` },
    inputs, make('div', { class: 'actions' }, run, status), problem, stream, results);
  el.append(root);

  // Jupyter takes keys that reach the notebook as commands: d d deletes the cell.
  for (const type of ['keydown', 'keyup', 'keypress']) root.addEventListener(type, (event) => event.stopPropagation());

  function typed(field) {
    edited = true;
    clearTimeout(timer);
    if (model.get('quick') && (field.kind === 'line' || field.kind === 'lines')) timer = setTimeout(ask, PAUSE);
  }

  function entered(event, field) {
    if (event.key !== 'Enter' || event.isComposing || (event.shiftKey && field.kind === 'lines')) return;
    event.preventDefault();
    ask();
  }

  function ask() {
    clearTimeout(timer);
    const values = Object.fromEntries([...fields].map(([name, element]) => [name, element.value]));
    edited = false;
    want({ type: 'run', values }, upload);
  }

  function look(name, value) {
    if (model.get('look')[name] === value && model.get('problem').place !== name) return;
    want({ type: 'look', name, value });
  }

  function want(message, data = null) {
    // A look asked for while an input waits must not push that input out: it is sent as it is, and is quick.
    if (message.type === 'look') { send(message); return; }
    if (waiting) { wanted = [message, data]; state(); return; }
    waiting = send(message, data);
    state();
  }

  function send(message, data = null) {
    number += 1;
    model.send({ ...message, number: `${id}-${number}` }, undefined, data ? [data] : []);
    return number;
  }

  function answered(message) {
    if (message.type !== 'done' || message.number !== `${id}-${waiting}`) return;
    waiting = 0;
    const next = wanted;
    wanted = null;
    if (next) want(...next);
    else fill();
    state();
  }

  function fill() {
    if (edited || waiting) return; // what is being typed stays
    const values = model.get('values');
    for (const [name, element] of fields) {
      if (element.value !== (values[name] ?? '')) element.value = values[name] ?? '';
      if (element.tagName === 'TEXTAREA') fit(element);
      if (element.value && element.closest('details')) element.closest('details').open = true;
    }
  }

  function options(select, entries, value) {
    const now = JSON.stringify(entries);
    if (select.dataset.entries !== now) {
      select.dataset.entries = now;
      select.replaceChildren(...entries.map((entry) => make('option', { value: entry.value }, entry.label)));
    }
    select.value = value;
  }

  function choose() {
    const { outputs = [], samples = 1 } = model.get('choices');
    const now = model.get('look');
    options(chosen.get('output'), outputs, now.output);
    const numbers = Array.from({ length: Math.min(samples, 1000) }, (_, n) => ({ value: String(n), label: String(n) }));
    options(chosen.get('sample'), numbers, now.sample);
    sample.hidden = samples < 2;
    topK.hidden = form.streams; // of a text it says what tokens are drawn from: nothing to look at
    for (const name of ['top_k', 'atol', 'rtol']) {
      if (model.get('problem').place !== name && chosen.get(name) !== document.activeElement) chosen.get(name).value = now[name] ?? '';
    }
  }

  function explain(told) {
    const { place = '', what = '', fix = '' } = told;
    const lines = what ? `${what}${fix ? `\nfix: ${fix}` : ''}` : '';
    for (const [name, { note, control: element }] of notes) {
      const wrong = Boolean(what) && name === place;
      note.textContent = wrong ? lines : note.dataset.hint;
      note.classList.toggle('problem', wrong);
      if (wrong) note.setAttribute('role', 'alert'); else note.removeAttribute('role');
      element.setAttribute('aria-invalid', String(wrong));
    }
    problem.textContent = notes.has(place) ? '' : lines;
  }

  function state() {
    const busy = model.get('busy') || (waiting ? 'running' : '');
    root.setAttribute('aria-busy', String(Boolean(busy)));
    results.classList.toggle('stale', model.get('stale'));
    results.hidden = !model.get('parts').answers;
    tensors.hidden = form.streams && !model.get('parts').tensor;
    status.textContent = busy ? `${busy} …` : model.get('stale') ? 'not run: the answers are those of the input before' : model.get('by_code');
    stream.textContent = model.get('stream');
    stream.hidden = !model.get('stream');
    explain(model.get('problem'));
  }

  function draw() {
    const parts = model.get('parts');
    // display/html.py's own: every name in it is escaped
    for (const [name, element] of [['answers', answers], ['times', times], ['tensor', tensor]]) {
      if (drawn.get(name) === parts[name]) continue; // a place that is looked at keeps its scroll and focus
      element.innerHTML = parts[name] ?? '';
      drawn.set(name, parts[name]);
    }
  }

  run.addEventListener('click', ask);
  const watched = [
    ['change:values', fill], ['change:choices change:look', choose], ['change:parts', draw],
    ['change:busy change:stale change:by_code change:stream change:problem change:parts', state], ['msg:custom', answered],
  ];
  for (const [events, handler] of watched) model.on(events, handler);
  fill();
  choose();
  draw();
  state();
  return () => {
    clearTimeout(timer);
    for (const [events, handler] of watched) model.off(events, handler);
  };
}

export default { render };
