// The training tab: data sets, a form of the recipe, and the trainings of this owner with their loss charts and samples.
(() => {
  const page = window.danqing;
  const DRAFT = 'danqing-train';
  const PACE = 1500, WAIT = 500;
  const SPOILT = ['train_picture_broken', 'train_picture_huge', 'train_picture_twice'];
  const root = () => document.querySelector('.dq-train');
  const all = (selector) => [...(root()?.querySelectorAll(selector) || [])];
  const one = (selector) => root()?.querySelector(selector);
  let words = {}, presets = null, sets = [], captions = 0, timer = 0, looking = 0, need = 0;
  const records = {};

  const word = (key, values = {}) => words[key].replace(/\{(\w+)\}/g, (_, name) => values[name] ?? '');
  const node = (tag, props = {}, ...children) => { const made = Object.assign(document.createElement(tag), props); made.append(...children); return made; };
  const gigabytes = (bytes) => bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(1)} GB` : `${Math.ceil(bytes / 2 ** 20)} MB`;

  async function call(method, path, body, kind = 'application/json') {
    const form = body instanceof FormData;
    const sent = body === undefined ? {} : { body: form ? body : JSON.stringify(body), headers: { ...(form ? {} : { 'Content-Type': kind }) } };
    const language = document.documentElement.lang || '';
    const answer = await fetch(path, { method, ...sent, headers: { ...sent.headers, 'Accept-Language': language } });
    const told = await answer.json().catch(() => ({}));
    if (answer.ok) return told;
    const detail = Array.isArray(told.detail) ? `${told.detail[0].loc.slice(1).join('.')}: ${told.detail[0].msg}` : told.detail;
    throw new Error(detail || told.errors || String(answer.status));
  }
  const tell = (error) => page.notice(error.message);

  // -- the form --

  const inputs = () => all('[data-field]');
  function valueOf(input) {
    if (input.type === 'checkbox') return input.checked;
    if (input.dataset.field === 'sample_prompts') return input.value.split('\n').map((line) => line.trim()).filter(Boolean).slice(0, 8);
    if (input.dataset.kind === 'numbers') return input.value.split(/[,，]/).map(Number);
    return input.type === 'number' && input.value !== '' ? Number(input.value) : input.value;
  }
  function put(input, value) {
    if (input.type === 'checkbox') input.checked = Boolean(value);
    else input.value = Array.isArray(value) ? value.join(input.dataset.kind === 'numbers' ? ', ' : '\n') : value ?? '';
  }
  const isFor = (input) => { const methods = input.closest('[data-for]')?.dataset.for; return !methods || methods.split(' ').includes(one('[data-field=method]').value); };

  // A text that is emptied is empty; a number that is emptied is the preset's.
  const isSaid = (input) => input.value !== '' || ['text', 'lines'].includes(input.dataset.kind);

  function recipe() {
    const fields = Object.fromEntries(inputs().filter((input) => isFor(input) && isSaid(input)).map((input) => [input.dataset.field, valueOf(input)]));
    return { kind: 'train', preset: one('[data-preset]').value, ...fields, data: one('[data-set]').value };
  }

  function suit() {
    const method = one('[data-field=method]').value;
    const fields = { ...presets.defaults, ...presets.presets[one('[data-preset]').value][method] };
    for (const input of inputs()) if (input.dataset.field in fields && !['model', 'sample_prompts', 'trigger'].includes(input.dataset.field)) put(input, fields[input.dataset.field]);
    show();
  }

  function show() {
    const method = one('[data-field=method]').value;
    for (const row of all('[data-for]')) row.hidden = !row.dataset.for.split(' ').includes(method);
    const source = one('[data-field=caption_source]').value;
    one('.dq-train-unused').hidden = !captions || source === 'sidecar' || (source === 'template' && one('[data-field=template]').value.includes('[filewords]'));
    clearTimeout(need);
    need = setTimeout(estimate, WAIT);
  }

  async function estimate() {
    const line = one('.dq-train-need'), wanted = recipe();
    if (!line || !wanted.name || !wanted.data) { if (line) line.textContent = ''; return; }
    try {
      const told = await call('POST', '/v1/training/estimate', wanted);
      const values = { need: gigabytes(told.bytes), device: gigabytes(told.device_bytes) };
      line.textContent = word(told.fits ? 'train_need' : 'train_need_too_much', values);
      line.classList.toggle('dq-train-wrong', !told.fits);
    } catch (error) {
      line.textContent = error.message;
      line.classList.add('dq-train-wrong');
    }
  }

  function keep() {
    const kept = Object.fromEntries(inputs().map((input) => [input.dataset.field, valueOf(input)]));
    localStorage.setItem(DRAFT, JSON.stringify({ fields: kept, preset: one('[data-preset]').value, set: one('[data-set]').value }));
  }

  function draft() {
    try { return JSON.parse(localStorage.getItem(DRAFT)) || {}; } catch { return {}; }
  }

  async function start(event) {
    event.preventDefault();
    const button = one('button[type=submit]');
    button.disabled = true;
    try {
      await call('POST', '/v1/jobs', recipe());
      await look();
      one('.dq-train-mine').scrollIntoView({ behavior: 'smooth', block: 'nearest' });
    } catch (error) { tell(error); } finally { button.disabled = false; }
  }

  // -- data sets --

  const chosen = () => one('[data-set]').value || one('[data-set-name]').value.trim();

  async function listSets(wanted) {
    sets = (await call('GET', '/v1/datasets')).datasets;
    const menu = one('[data-set]');
    menu.replaceChildren(...sets.map((row) => node('option', { value: row.name, textContent: `${row.name} (${row.pictures})` })), node('option', { value: '', textContent: word('train_set_new') }));
    menu.value = sets.some((row) => row.name === wanted) ? wanted : sets[0]?.name ?? '';
    await showSet();
  }

  async function showSet() {
    const name = one('[data-set]').value;
    one('[data-new]').hidden = Boolean(name);
    one('[data-train-do=remove]').hidden = !name;
    one('.dq-train-see').hidden = true;
    const line = one('.dq-train-report'), issues = one('.dq-train-issues'), frame = one('.dq-train-pictures');
    line.textContent = '';
    issues.replaceChildren();
    frame.replaceChildren();
    captions = 0;
    if (!name) return show();
    try {
      const told = await call('GET', `/v1/datasets/${encodeURIComponent(name)}?resolution=${Number(one('[data-field=resolution]').value) || 0}`);
      captions = told.captions;
      line.textContent = told.fatal || [word('train_counts', { pictures: told.pictures.length, captions: told.captions }), bucketsOf(told.pictures)].filter(Boolean).join(' · ');
      one('.dq-train-see').hidden = told.captions === told.pictures.length;
      line.classList.toggle('dq-train-wrong', Boolean(told.fatal));
      issues.replaceChildren(...told.issues.slice(0, 20).map((issue) => node('li', {}, issue.text, ...(SPOILT.includes(issue.code) ? [' ', away(name, issue.file)] : []))));
      frame.replaceChildren(...told.pictures.slice(0, 200).map((picture) => card(name, picture)));
    } catch (error) { line.textContent = error.message; line.classList.add('dq-train-wrong'); }
    show();
  }

  function bucketsOf(pictures) {
    if (!one('[data-field=buckets]').checked) return '';
    const counts = new Map();
    for (const { bucket } of pictures) counts.set(bucket.join('×'), (counts.get(bucket.join('×')) || 0) + 1);
    return counts.size ? word('train_buckets', { sizes: [...counts].map(([size, count]) => `${count} × (${size})`).join(', ') }) : '';
  }

  const pathOf = (set, file) => `/v1/datasets/${encodeURIComponent(set)}/pictures/${file.split('/').map(encodeURIComponent).join('/')}`;

  function away(set, file) {
    const button = node('button', { type: 'button', className: 'dq-train-away', textContent: '×', title: word('train_picture_remove'), ariaLabel: `${word('train_picture_remove')}: ${file}` });
    button.addEventListener('click', async () => {
      if (!confirm(word('train_picture_sure', { name: file }))) return;
      await call('DELETE', pathOf(set, file)).catch(tell);
      await listSets(set).catch(tell);
    });
    return button;
  }

  function card(name, picture) {
    const path = pathOf(name, picture.name);
    const image = node('img', { src: `${path}?v=${picture.sha256.slice(0, 12)}`, alt: picture.name, loading: 'lazy', decoding: 'async', title: `${picture.name}, ${picture.width}×${picture.height}` });
    const caption = node('textarea', { rows: 2, value: picture.caption, placeholder: word('train_caption') });
    caption.dataset.file = picture.name;
    caption.setAttribute('aria-label', `${word('train_caption')}: ${picture.name}`);
    caption.addEventListener('change', async () => {
      try {
        await call('PUT', `/v1/datasets/${encodeURIComponent(name)}/captions`, { file: picture.name, caption: caption.value });
        caption.classList.add('dq-saved');
        setTimeout(() => caption.classList.remove('dq-saved'), 1200);
      } catch (error) { tell(error); }
    });
    return node('figure', {}, image, away(name, picture.name), caption);
  }

  // `files`: rows of name and file. One that is refused costs none of the others.
  async function upload(files) {
    const name = chosen() || 'pictures', line = one('.dq-train-report'), wrong = [];
    for (const [path, file] of files) {
      line.textContent = word('train_uploading', { name: path });
      const form = new FormData();
      form.append('files', file, path);
      try {
        const told = await call('POST', `/v1/datasets/${encodeURIComponent(name)}`, form);
        wrong.push(...told.issues.map((issue) => issue.text));
      } catch (error) { wrong.push(`${path}: ${error.message}`); }
    }
    await listSets(name).catch(tell);
    if (wrong.length) one('.dq-train-issues').prepend(...wrong.slice(0, 20).map((text) => node('li', { className: 'dq-train-wrong', textContent: text })));
    keep();
  }

  // What is dropped, folders opened; the name of a single folder says nothing.
  async function dropped(transfer) {
    const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean), found = [];
    if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files].map((file) => [file.name, file]);
    const walk = async (entry, path) => {
      if (entry.isFile) { found.push([path + entry.name, await new Promise((good, bad) => entry.file(good, bad))]); return; }
      const reader = entry.createReader(), inside = entries.length === 1 && entry === entries[0] ? '' : `${path}${entry.name}/`;
      for (let some; (some = await new Promise((good, bad) => reader.readEntries(good, bad))).length;) for (const next of some) await walk(next, inside);
    };
    for (const entry of entries) await walk(entry, '');
    return found.filter(([name]) => /\.(png|jpe?g|webp|bmp|txt|caption|zip)$/i.test(name));
  }

  // An interrogator looks at the pictures without a caption, one after the other.
  async function see() {
    const name = one('[data-set]').value, line = one('.dq-train-report'), button = one('[data-train-do=see]');
    button.disabled = true;
    try {
      for (const box of all('.dq-train-pictures textarea').filter((box) => !box.value)) {
        line.textContent = word('train_seeing', { name: box.dataset.file });
        box.value = (await call('POST', `/v1/datasets/${encodeURIComponent(name)}/captions`, { file: box.dataset.file, model: one('[data-see]').value })).caption;
      }
    } catch (error) { tell(error); } finally { button.disabled = false; }
    await showSet();
  }

  // -- trainings --

  async function look() {
    clearTimeout(timer);
    const number = ++looking;
    const frame = one('.dq-train-jobs');
    if (!frame || document.body.dataset.tab !== 'train') return;
    try {
      const jobs = (await call('GET', '/v1/jobs?kind=train&limit=20')).jobs;
      await Promise.all(jobs.map(record));
      if (number !== looking) return;
      if (!jobs.length) frame.replaceChildren(node('p', { className: 'dq-none', textContent: word('train_none') }));
      else place(frame, jobs);
      if (jobs.some((job) => ['queued', 'running'].includes(job.state))) timer = setTimeout(look, PACE);
    } catch (error) { timer = setTimeout(look, 3 * PACE); }
  }

  // What a training has written since it was last asked; one that is over is asked once.
  async function record(job) {
    const known = records[job.id] ||= { next: 0, losses: new Map(), samples: [], state: '' };
    if (known.state === job.state && !['running', 'queued'].includes(job.state)) return;
    try {
      const told = await call('GET', `/v1/jobs/${job.id}/training?since=${known.next}`);
      for (const row of told.rows) if (typeof row.loss === 'number') known.losses.set(row.step, row.loss);
      Object.assign(known, { next: told.next, samples: told.samples, result: told.result, recipe: told.recipe, state: job.state });
    } catch { known.state = job.state; }  // a cancelled one has left nothing
  }

  function place(frame, jobs) {
    const before = new Map([...frame.querySelectorAll('[data-job]')].map((card) => [card.dataset.job, card]));
    const cards = jobs.map((job) => {
      const signature = JSON.stringify([job.state, job.training, job.error, records[job.id]?.samples.length, records[job.id]?.next, document.documentElement.lang]);
      const old = before.get(job.id);
      if (old?.dataset.signature === signature) return old;
      const card = training(job);
      Object.assign(card.dataset, { job: job.id, signature });
      return card;
    });
    frame.replaceChildren(...cards);
  }

  function training(job) {
    const told = job.training, known = records[job.id], paused = told.paused && job.state === 'queued';
    const over = !['queued', 'running'].includes(job.state);
    const state = node('span', { className: 'dq-train-state', textContent: word(`train_state_${paused ? 'paused' : job.state}`) });
    const method = known.recipe ? word(`train_method_${known.recipe.method}`) : '';
    const card = node('article', { className: `dq-train-job dq-train-${paused ? 'paused' : job.state}` }, node('header', {}, node('h3', { textContent: told.name }), node('small', { textContent: method }), state));
    if (told.steps) card.append(node('progress', { max: 1, value: job.progress, ariaLabel: told.name }));
    const line = [told.steps ? word('train_step', told) : '', told.loss == null ? '' : word('train_loss', { loss: told.loss.toFixed(4) }), job.state === 'running' ? left(job.eta) : ''].filter(Boolean).join(' · ');
    if (line) card.append(node('p', { className: 'dq-train-line', textContent: line }));
    if (job.error && job.state === 'failed') card.append(node('p', { className: 'dq-train-wrong', textContent: job.error.message }));
    if (known.losses.size > 1) card.append(chart(known.losses));
    if (known.samples.length) card.append(samples(job, known.samples));
    const files = (known.result?.files || []).map((file) => file.path).join(', ');
    if (files) card.append(node('p', { className: 'dq-train-made', textContent: word('train_result', { files }) }));
    const bar = actions(job, over, paused);
    (known.result?.files || []).forEach((file, number) => bar.append(node('a', { className: 'dq-button', href: `/v1/jobs/${job.id}/files/${number}`, download: file.path.split('/').pop(), textContent: word('train_save') })));
    if (known.recipe) {
      const again = node('button', { type: 'button', className: 'dq-button', textContent: word('train_again') });
      again.addEventListener('click', () => use(known.recipe));
      bar.append(again);
    }
    card.append(bar);
    return card;
  }

  function left(seconds) {
    if (seconds == null) return '';
    const [key, unit] = seconds < 90 ? ['train_left_s', 1] : seconds < 5400 ? ['train_left_min', 60] : ['train_left_h', 3600];
    return word(key, { number: unit === 3600 ? (seconds / unit).toFixed(1) : Math.round(seconds / unit) });
  }

  // The form as it was for a training that has been.
  function use(fields) {
    for (const input of inputs()) if (input.dataset.field in fields) put(input, fields[input.dataset.field]);
    if (sets.some((row) => row.name === fields.data)) one('[data-set]').value = fields.data;
    showSet();
    keep();
    one('form').scrollIntoView({ behavior: 'smooth', block: 'start' });
    one('[data-field=name]').select();
  }

  function actions(job, over, paused) {
    const bar = node('div', { className: 'dq-actions' });
    const add = (key, method, path, sure) => {
      const button = node('button', { type: 'button', className: 'dq-button', textContent: word(key) });
      button.addEventListener('click', async () => {
        if (sure && !confirm(word(sure))) return;
        button.disabled = true;
        try { await call(method, path); await look(); } catch (error) { tell(error); button.disabled = false; }
      });
      bar.append(button);
    };
    if (!over && !job.training.paused) add('train_pause', 'POST', `/v1/jobs/${job.id}/pause`);
    if (job.training.paused || job.state === 'failed') add('train_resume', 'POST', `/v1/jobs/${job.id}/resume`);
    if (!over) add('train_cancel', 'DELETE', `/v1/jobs/${job.id}`, 'train_cancel_sure');
    return bar;
  }

  // The losses and their running mean, as lines in a box of 300 by 90.
  function chart(losses) {
    const rows = [...losses].sort((a, b) => a[0] - b[0]), every = Math.ceil(rows.length / 600);
    const shown = rows.filter((_, index) => index % every === 0 || index === rows.length - 1);
    const values = rows.map((row) => row[1]).sort((a, b) => a - b);
    const low = values[0], high = Math.max(values[Math.floor(values.length * 0.98)], low + 1e-9), first = rows[0][0], last = rows.at(-1)[0];
    const at = ([step, loss]) => `${((step - first) / Math.max(1, last - first) * 300).toFixed(1)},${(88 - Math.min(1, (loss - low) / (high - low)) * 86).toFixed(1)}`;
    let mean = shown[0][1];
    const smooth = shown.map(([step, loss]) => [step, mean += 0.08 * (loss - mean)]);
    const svg = (name, props) => { const made = document.createElementNS('http://www.w3.org/2000/svg', name); for (const [key, value] of Object.entries(props)) made.setAttribute(key, value); return made; };
    const picture = svg('svg', { viewBox: '0 0 300 90', preserveAspectRatio: 'none', role: 'img', 'aria-label': word('train_chart') });
    picture.append(svg('polyline', { class: 'dq-train-raw', points: shown.map(at).join(' ') }), svg('polyline', { points: smooth.map(at).join(' ') }));
    const caption = node('figcaption', {}, node('span', { textContent: word('train_chart') }), node('b', { textContent: `${low.toFixed(3)} – ${high.toFixed(3)}` }));
    return node('figure', { className: 'dq-chart' }, caption, picture);
  }

  function samples(job, names) {
    const strip = node('div', { className: 'dq-train-samples', ariaLabel: word('train_samples') });
    names.slice(-12).forEach((name, index) => {
      const number = names.length - Math.min(12, names.length) + index;
      const step = String(Number(name.split('-')[0]));
      const src = `/v1/jobs/${job.id}/samples/${number}`;
      strip.append(node('figure', {}, node('a', { href: src, target: '_blank' }, node('img', { src, alt: `${word('train_samples')} ${step}`, loading: 'lazy' })), node('figcaption', { textContent: step })));
    });
    return strip;
  }

  // -- beginning --

  async function begin(frame) {
    words = JSON.parse(frame.querySelector('.dq-train').dataset.words);
    const kept = draft();
    presets ||= await call('GET', '/v1/training/presets');
    const model = one('[data-field=model]');
    one('[data-preset]').value = kept.preset || (/mini/.test(model.options[0]?.value || '') ? 'cpu-mini' : 't4');
    if (kept.fields?.method) put(one('[data-field=method]'), kept.fields.method);
    suit();
    for (const input of inputs()) if (kept.fields && input.dataset.field in kept.fields) put(input, kept.fields[input.dataset.field]);
    if (!model.value) model.selectedIndex = 0;
    one('form').addEventListener('submit', start);
    one('form').addEventListener('change', (event) => {
      if (event.target.matches('[data-field=method], [data-preset]')) suit();
      if (event.target.matches('[data-set]')) showSet();
      if (event.target.matches('[data-field=resolution], [data-field=buckets]')) showSet();
      if (event.target.matches('input[type=file]')) { upload([...event.target.files].map((file) => [file.name, file])); event.target.value = ''; }
      show();
      keep();
    });
    one('[data-train-do=remove]').addEventListener('click', async () => {
      if (!confirm(word('train_set_sure'))) return;
      await call('DELETE', `/v1/datasets/${encodeURIComponent(one('[data-set]').value)}`).catch(tell);
      await listSets('').catch(tell);
    });
    one('[data-train-do=see]').addEventListener('click', see);
    const drop = one('.dq-train-drop');
    drop.addEventListener('keydown', (event) => { if (['Enter', ' '].includes(event.key)) { event.preventDefault(); drop.querySelector('input').click(); } });
    drop.addEventListener('dragover', (event) => { event.preventDefault(); drop.classList.add('dq-over'); });
    drop.addEventListener('dragleave', () => drop.classList.remove('dq-over'));
    drop.addEventListener('drop', (event) => { event.preventDefault(); drop.classList.remove('dq-over'); dropped(event.dataTransfer).then(upload).catch(tell); });
    await listSets(kept.set);
    await look();
  }

  const before = page.loaded;
  page.loaded = (name, frame) => {
    before?.(name, frame);
    if (name === 'train') begin(frame).catch(tell);
  };
})();
