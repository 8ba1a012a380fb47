// Administrators' tabs: the machine, merging, fetching; plug-ins and their tabs; the tabs that a reader may see.
(() => {
  const page = window.danqing;
  const KEPT = 150;
  const history = [];
  let last = 0, follow = 0;

  const frame = (name) => document.querySelector(`[data-shelf="${name}"]`);
  const open = (name) => document.body.dataset.tab === name;
  const formed = (form) => {
    const told = {};
    for (const one of form.elements) {
      if (!one.name || one.disabled) continue;
      if (one.name === 'names') { if (one.checked) (told.names ||= []).push(one.value); } else told[one.name] = one.type === 'checkbox' ? one.checked : one.type === 'number' ? Number(one.value) : one.value;
    }
    return told;
  };

  // -- who looks --
  async function me() {
    try {
      const told = await (await fetch('/ui/me')).json();
      document.body.dataset.admin = told.admin ? '1' : '0';
      const known = new Set(told.tabs);
      for (const input of document.querySelectorAll('#dq-tabs input[value^="plug-"]')) input.closest('label').hidden = !known.has(input.value);
    } catch { /* the next load asks again */ }
  }

  // -- the machine --
  const size = (bytes) => bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(1)} GB` : `${Math.round(bytes / 2 ** 20)} MB`;

  function line(values, top) {
    const step = 120 / (KEPT - 1), start = KEPT - values.length;
    return values.map((value, index) => `${((start + index) * step).toFixed(1)},${(39 - 37 * Math.min(1, value / (top || 1))).toFixed(1)}`).join(' ');
  }
  function chart(name, title, values, top, text) {
    const figure = document.querySelector(`[data-chart="${name}"]`);
    if (!figure) return;
    const points = line(values, top), first = points.split(' ')[0].split(',')[0];
    figure.querySelector('figcaption').replaceChildren(title, Object.assign(document.createElement('b'), { textContent: text }));
    const svg = figure.querySelector('svg');
    svg.setAttribute('aria-label', `${title}: ${text}`);
    svg.innerHTML = `<polygon points="${first},40 ${points} 120,40"/><polyline points="${points}"/>`;
  }
  function fact(name, title, text) {
    const row = document.querySelector(`[data-fact="${name}"]`);
    if (row) { row.children[0].textContent = title; row.children[1].textContent = text; }
  }

  function draw(told) {
    const words = frame('system')?.querySelector('.dq-system')?.dataset;
    if (!words) return;
    const { stats, disk } = told, gpu = stats.engine_device_bytes;
    const memory = gpu ? [gpu - stats.engine_device_free, gpu] : [stats.engine_ram_engine || 0, stats.engine_ram_bytes || 1];
    const load = stats.engine_device_load ?? 100 * (stats.engine_load || 0) / (stats.engine_cores || 1);
    history.push({ memory: memory[0], load, queue: stats.jobs_waiting + stats.jobs_running });
    history.splice(0, Math.max(0, history.length - KEPT));
    const of = (key) => history.map((one) => one[key]);
    chart('memory', gpu ? words.deviceMemory : words.memory, of('memory'), memory[1], `${size(memory[0])} / ${size(memory[1])}`);
    chart('load', 'engine_device_load' in stats ? words.deviceLoad : words.load, of('load'), Math.max(100, ...of('load')), `${Math.round(load)} %`);
    chart('queue', words.queue, of('queue'), Math.max(4, ...of('queue')), String(stats.jobs_waiting + stats.jobs_running));
    fact('ready', stats.queue_paused ? words.paused : told.ready ? words.ready : words.notReady, told.error || told.phases.map((one) => `${one.name} ${one.seconds.toFixed(1)} s`).join(' · '));
    fact('device', words.device, told.device || '–');
    fact('compiled', words.compiled, told.compiled);
    fact('queue', words.queue, `${stats.jobs_running} ${words.running} · ${stats.jobs_waiting} ${words.waiting}`);
    fact('disk', words.disk, `${size(disk.free)} ${words.free} ${words.of} ${size(disk.total)}`);
    fact('pictures', words.pictures, String(stats.pictures));
    fact('models', words.models, String(stats.engine_models ?? '–'));
    const log = document.querySelector('.dq-log');
    if (told.log.lines.length) {
      log.append(told.log.lines.join('\n') + '\n');
      if (log.textContent.length > 400000) log.textContent = log.textContent.slice(-200000);
      if (document.querySelector('[data-follow]')?.checked) log.scrollTop = log.scrollHeight;
    }
    last = told.log.number;
  }

  async function watch() {
    clearTimeout(follow);
    if (!open('system') || !document.querySelector('.dq-system')) return;
    try {
      const answer = await fetch(`/ui/system/facts?after=${last}`);
      if (answer.ok) draw(await answer.json());
    } catch { last = 0; }
    follow = setTimeout(watch, 2000);
  }

  // -- works --
  let working = 0;
  async function works() {
    clearTimeout(working);
    const lists = [...document.querySelectorAll('.dq-works')].filter((one) => one.offsetParent || one.hidden);
    if (!lists.length || !(open('merge') || open('models'))) return;
    const found = await (await fetch('/ui/chores')).json().catch(() => []);
    if (!Array.isArray(found)) return;
    for (const list of lists) {
      list.hidden = !found.length;
      list.querySelector('ul').replaceChildren(...found.slice(0, 8).map((one) => {
        const item = document.createElement('li'), live = ['waiting', 'running'].includes(one.state);
        item.dataset.state = one.state;
        item.append(Object.assign(document.createElement('span'), { textContent: one.said }));
        if (live) {
          item.append(Object.assign(document.createElement('progress'), { value: one.progress, max: 1, ariaLabel: one.title }));
          const stop = Object.assign(document.createElement('button'), { type: 'button', className: 'dq-button', textContent: list.dataset.stop });
          stop.onclick = () => page.post('/ui/chores/cancel', { id: one.id }).then(works, (error) => page.notice(error.message));
          item.append(stop);
        }
        return item;
      }));
    }
    const busy = found.some((one) => ['waiting', 'running'].includes(one.state));
    if (busy) works.busy = true; else if (works.busy) { works.busy = false; document.querySelector('#dq-refresh')?.click(); }
    if (busy) working = setTimeout(works, 700);
  }

  const forms = {
    allocator: async (form) => {
      await page.post('/ui/system/allocator', formed(form));
      form.querySelector('[role=status]').textContent = document.querySelector('.dq-system').dataset.applied;
    },
    merge: async (form) => { await page.post('/ui/chores', { kind: 'merge', ...formed(form) }); works(); },
    fetch: async (form) => { await page.post('/ui/chores', { kind: 'fetch', names: [], ...formed(form) }); works(); },
  };

  const acts = {
    look: async () => { await page.post('/ui/plugins', { look: true }); page.load('plugins'); me(); },
    manifest: async (button) => {
      const place = button.parentNode.querySelector('[data-manifest]');
      place.hidden = !place.hidden;
      if (!place.hidden) { place.innerHTML = await (await fetch('/ui/manifest')).text(); works(); }
    },
    'restart-engine': () => restart('engine'),
    'restart-service': () => restart('service'),
    'model-delete': async (button) => {
      const { kind, name } = button.closest('[data-file]').dataset;
      await page.post('/ui/models/delete', { kind, name });
      const undo = document.querySelector('.dq-model-gone');
      await page.load('models');
      const line = document.querySelector('.dq-model-gone');
      if (line) { line.hidden = false; Object.assign(line.dataset, { kind, name }); line.querySelector('span').textContent = line.dataset.said.replace('{name}', name); }
      document.querySelector('#dq-refresh')?.click();
      return undo;
    },
    'model-restore': async (button) => {
      const { kind, name } = button.closest('.dq-model-gone').dataset;
      await page.post('/ui/models/delete', { kind, name, restore: true });
      await page.load('models');
      document.querySelector('#dq-refresh')?.click();
    },
    'model-preview': async (button) => {
      const { kind, name } = button.closest('[data-file]').dataset;
      await page.post('/ui/models/preview', { kind, name, picture: page.picked() });
      page.load('models');
    },
  };

  async function restart(what) {
    const words = document.querySelector('.dq-system').dataset;
    if (!window.confirm(words.restartSure)) return;
    await page.post('/ui/system/restart', { what });
    page.notice(words.restarting);
    last = what === 'service' ? 0 : last;
  }

  const tell = (error) => page.notice(error.message);

  document.addEventListener('submit', (event) => {
    const form = event.target, shelf = form.closest('[data-plug]');
    if (!form.dataset.form && !shelf) return;
    event.preventDefault();
    if (form.dataset.form) return forms[form.dataset.form](form).catch(tell);
    const told = Object.fromEntries(Object.entries(formed(form)).map(([key, value]) => [key, String(value)]));
    page.ask(`/ui/plug/${shelf.dataset.shelf}`, JSON.stringify(told), 'application/json', 'text')
      .then((text) => { shelf.innerHTML = text; }, tell);
  });
  document.addEventListener('click', (event) => {
    const button = event.target.closest?.('[data-office]');
    if (button) Promise.resolve(acts[button.dataset.office](button)).catch(tell);
  });
  document.addEventListener('change', (event) => {
    const name = event.target.dataset?.plugin;
    if (name) page.post('/ui/plugins', { name, on: event.target.checked }).then(() => { page.load('plugins'); me(); }, (error) => { tell(error); page.load('plugins'); });
  });

  page.loaded = (name) => {
    if (name === 'system') { last = 0; history.length = 0; watch(); }
    if (name === 'merge' || name === 'models') works();
  };

  if (document.body) me(); else document.addEventListener('DOMContentLoaded', me);
})();
