// The tabs: which is open, and what the pages beside the desk show.
(() => {
  const page = window.danqing;
  const shelf = (name) => document.querySelector(`[data-shelf="${name}"]`);
  const PIECE = 32 * 1024 * 1024;
  let gone = [];

  page.tab = (tab, ofText, ofImage) => {
    const image = ['img2img', 'inpaint'].includes(tab);
    const script = image ? ofImage : ofText;
    Object.assign(document.body.dataset, { tab, script: (script || '').replace(/[^a-z0-9]/g, '-') });
    if (shelf(tab) && opened !== tab) page.load(tab);
    // One stop for the keyboard, arrows within it; a first look leaves the place where the keyboard begins alone.
    const inputs = [...document.querySelectorAll('#dq-tabs input')];
    for (const input of inputs) input.tabIndex = input.value === tab ? 0 : -1;
    if (opened !== tab) inputs.find((input) => input.value === tab)?.closest('label').scrollIntoView({ block: 'nearest', inline: 'center' });
    opened = tab;
  };
  let opened = 'txt2img';

  document.addEventListener('keydown', (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key], here = event.target.closest?.('#dq-tabs input');
    if (!step || !here) return;
    event.preventDefault();
    const inputs = [...document.querySelectorAll('#dq-tabs input')].filter((input) => input.closest('label').offsetParent);
    const next = inputs[(inputs.indexOf(here) + step + inputs.length) % inputs.length];
    next.click();
    next.focus();
  });

  // Opens a tab as a click on it does.
  page.choose = (tab) => document.querySelector(`#dq-tabs input[value="${tab}"]`)?.click();

  // What the gallery is narrowed to beside its search; days are the reader's own, from midnight to midnight.
  function narrowed() {
    const of = (name) => document.querySelector(`#dq-page-gallery [data-${name}]`);
    const midnight = (name, days) => {
      const [year, month, day] = of(name).value.split('-').map(Number);
      return year ? new Date(year, month - 1, day + days).getTime() / 1000 : '';
    };
    return { liked: of('liked').checked ? '1' : '', model: of('of-model').value.trim(), since: midnight('since', 0), until: midnight('until', 1) };
  }

  const whose = () => document.querySelector('.dq-whose input:checked')?.value || '';
  const asked = {};
  const load = page.load = async (name, before = '') => {
    const frame = shelf(name);
    if (!frame) return;
    const search = document.querySelector(`[data-search="${name}"]`);
    const asks = new URLSearchParams({ q: search?.value || '', before, ...(name === 'gallery' ? narrowed() : {}), ...(name === 'settings' ? { box: whose() } : {}) });
    const path = 'plug' in frame.dataset ? `/ui/plug/${name}` : `/ui/${name}?${asks}`;
    const mine = asked[name] = (asked[name] || 0) + 1;
    const answer = await fetch(path).catch(() => null);
    if (!answer) return page.notice(page.say('lost'));
    if (!answer.ok) return page.refused(frame, answer);
    const text = await answer.text();
    if (mine !== asked[name]) return;
    if (before) frame.querySelector('.dq-older')?.replaceWith(document.createRange().createContextualFragment(text)); else frame.innerHTML = text;
    if (name === 'gallery') marks();
    if (name === 'settings') narrow(search);
    page.loaded?.(name, frame);
  };

  // Why a page is not shown, in its place.
  page.refused = async (frame, answer) => {
    const told = await answer.json().catch(() => ({}));
    const text = answer.status === 401 ? page.loggedOut() : told.errors || told.detail || answer.status;
    const line = Object.assign(document.createElement('p'), { className: 'dq-none', textContent: text });
    frame.replaceChildren(line);
  };

  function marks() {
    const count = chosen().length;
    const bar = document.querySelector('.dq-chosen');
    bar.hidden = !count;
    bar.querySelector('b').textContent = count;
    const undo = document.querySelector('.dq-gone');
    undo.hidden = !gone.length;
    undo.querySelector('b').textContent = gone.length;
  }
  const chosen = () => [...document.querySelectorAll('.dq-piece input:checked')].map((one) => one.closest('.dq-piece').querySelector('.dq-thumb').dataset.id);

  // Words of a search, each of which must stand in a row.
  function narrow(search) {
    const words = (search?.value || '').toLowerCase().split(/\s+/);
    for (const row of document.querySelectorAll('.dq-option')) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
    for (const part of document.querySelectorAll('[data-shelf=settings] section')) part.hidden = !part.querySelector('.dq-option:not([hidden])');
  }

  async function set(row, value) {
    try {
      await page.post(`/ui/settings?box=${whose()}`, { [row.dataset.key]: value });
      row.classList.toggle('dq-changed', String(value).toLowerCase() !== row.dataset.default.toLowerCase());
      row.classList.add('dq-saved');
      setTimeout(() => row.classList.remove('dq-saved'), 1200);
    } catch (error) { page.notice(error.message); load('settings'); }
  }
  const valueOf = (input) => input.type === 'checkbox' ? input.checked : input.type === 'number' ? Number(input.value) : input.value;

  // A model in pieces, so that a file of gigabytes passes; what came before a failure is not kept.
  async function upload(frame, input) {
    const file = input.files[0];
    // The same file can be chosen again after it was refused.
    input.value = '';
    if (!file) return;
    const bar = frame.querySelector('progress'), line = frame.querySelector('[role=status]'), kind = frame.querySelector('select').value;
    bar.hidden = false;
    line.textContent = file.name;
    try {
      for (let at = 0; at === 0 || at < file.size; at += PIECE) {
        const last = at + PIECE >= file.size ? '1' : '';
        const path = `/ui/uploads/${kind}?name=${encodeURIComponent(file.name)}&offset=${at}&last=${last}`;
        await page.ask(path, file.slice(at, at + PIECE), 'application/octet-stream');
        bar.value = Math.min(1, (at + PIECE) / file.size);
      }
      await load('models');
      document.querySelector('.dq-upload [role=status]').textContent = frame.dataset.done + file.name;
      document.querySelector('#dq-refresh')?.click();
    } catch (error) {
      bar.hidden = true;
      line.textContent = '';
      page.notice(error.message);
    }
  }

  page.information = (text, name) => {
    const frame = document.querySelector('#dq-information');
    const info = frame.querySelector('.dq-info');
    info.textContent = text;
    info.hidden = !text;
    frame.querySelector('.dq-actions').hidden = !name;
    frame.querySelector('.dq-none').hidden = !name || Boolean(text);
    frame.dataset.name = name;
  };

  // By a form: addresses are too short for hundreds of pictures.
  function download(address, ids) {
    const form = document.createElement('form');
    const field = document.createElement('input');
    Object.assign(form, { method: 'post', action: address, hidden: true });
    Object.assign(field, { type: 'hidden', name: 'ids', value: ids });
    form.append(field);
    document.body.append(form);
    form.submit();
    form.remove();
  }

  async function act(button) {
    const kind = button.dataset.shelfDo;
    if (kind === 'zip') download('/ui/zip', chosen().join(','));
    if (kind === 'delete' || kind === 'undo') {
      const ids = kind === 'delete' ? chosen() : gone;
      await page.post('/ui/pictures', { ids, restore: kind === 'undo' });
      gone = kind === 'delete' ? ids : [];
      for (const thumb of document.querySelectorAll('#dq-history .dq-thumb')) if (ids.includes(thumb.dataset.id)) thumb.parentNode.hidden = kind === 'delete';
      await load('gallery');
    }
    if (kind === 'send') {
      const text = document.querySelector('#dq-information .dq-info').textContent;
      if (text && button.dataset.tab !== 'extras') page.paste(text);
      if (button.dataset.tab === 'txt2img') return page.choose('txt2img');
      const image = document.querySelector('#dq-page-info .dq-board img');
      page.send('', button.dataset.tab, { name: document.querySelector('#dq-information').dataset.name, width: image.naturalWidth, height: image.naturalHeight });
    }
  }

  document.addEventListener('click', (event) => {
    const at = (selector) => event.target.closest?.(selector);
    if (at('[data-shelf-do]')) act(at('[data-shelf-do]')).catch((error) => page.notice(error.message));
    if (at('.dq-older')) load('gallery', at('.dq-older').dataset.before);
    if (at('.dq-shelf [data-do=open]')) page.clicked(event);
    if (at('.dq-shelf [data-insert]')) page.choose('txt2img');
    if (at('.dq-like')) {
      const heart = at('.dq-like'), liked = heart.getAttribute('aria-pressed') !== 'true';
      heart.setAttribute('aria-pressed', String(liked));
      page.post('/ui/like', { picture: at('.dq-piece').querySelector('.dq-thumb').dataset.id, liked }).catch((error) => page.notice(error.message));
    }
    if (at('[data-reset]')) {
      const row = at('.dq-option'), input = row.querySelector('input, select');
      if (input.type === 'checkbox') input.checked = row.dataset.default === 'True'; else input.value = row.dataset.default === 'None' ? '' : row.dataset.default;
      set(row, valueOf(input));
    }
    if (at('[data-vae]')) { window.danqingTriggers.stage('vae', { name: at('[data-vae]').dataset.vae }); page.choose('txt2img'); }
    if (at('[data-model]')) page.model(at('[data-model]').dataset.model);
  });
  document.addEventListener('change', (event) => {
    const row = event.target.closest?.('.dq-option');
    if (row) set(row, valueOf(event.target));
    if (event.target.closest?.('.dq-whose')) load('settings');
    if (event.target.closest?.('.dq-piece')) marks();
    if (event.target.matches?.('[data-liked], [data-of-model], [data-since], [data-until]')) load('gallery');
    if (event.target.matches?.('.dq-upload input')) upload(event.target.closest('.dq-upload'), event.target);
  });
  let timer = 0;
  document.addEventListener('input', (event) => {
    const search = event.target.dataset?.search, find = event.target.dataset?.find;
    if (search === 'settings') narrow(event.target);
    if (search === 'gallery') { clearTimeout(timer); timer = setTimeout(() => load('gallery'), 300); }
    if (find) for (const card of document.querySelectorAll(find)) card.hidden = !card.textContent.toLowerCase().includes(event.target.value.toLowerCase());
  });

  // Chooses a checkpoint as a click in the menu does.
  page.model = (title) => { window.danqingTriggers.stage('model', { title }); page.choose('txt2img'); };
})();
