// The parts of the page that need no server: picking and viewing pictures, copying, keys, light and dark.
window.danqing = (() => {
  const words = __WORDS__;
  const help = __HELP__;
  const say = (key) => words[key][/^zh/.test(document.documentElement.lang) ? 1 : 0];

  // The server said which language the page is in; Gradio goes by the browser's, and knows zh-CN and zh-TW only.
  const chinese = window.danqingLanguage === 'zh';
  const known = chinese ? ['zh-CN', 'zh-TW'].includes(navigator.language) : /^en/.test(navigator.language);
  if (!known) Object.defineProperty(navigator, 'language', { get: () => (chinese ? 'zh-CN' : 'en-US') });

  // The other language, at once: what is running and what is written comes back with the page.
  function switchLanguage() {
    document.cookie = `danqing_language=${chinese ? 'en' : 'zh'}; path=/; max-age=31536000; samesite=lax`;
    location.reload();
  }

  const stage = () => document.querySelector('#dq-stage .dq-stage');
  const picked = () => stage()?.dataset.id || '';

  function make(tag, props, ...children) {
    const node = Object.assign(document.createElement(tag), props);
    node.append(...children);
    return node;
  }

  async function copy(text, button) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // The clipboard is closed to pages that came over plain HTTP.
      const area = make('textarea', { value: text, style: 'position:fixed;opacity:0' });
      (button.closest('dialog') || document.body).append(area);
      area.select();
      document.execCommand('copy');
      area.remove();
    }
    const before = button.textContent;
    button.textContent = say('copied');
    setTimeout(() => { if (button.textContent === say('copied')) button.textContent = before; }, 1500);
  }

  // What a thumbnail says of its picture.
  function facts(thumb) {
    const image = thumb.querySelector('img');
    return {
      id: thumb.dataset.id, info: thumb.dataset.info, alt: image.alt, src: image.getAttribute('src'),
      width: thumb.dataset.w, height: thumb.dataset.h,
    };
  }

  function pick(thumb) {
    const picture = facts(thumb);
    const section = stage();
    const image = section.querySelector('.dq-zoom img');
    if (!image) return view([...section.querySelectorAll('.dq-thumb')].map(facts), picture.id);
    section.dataset.id = picture.id;
    Object.assign(image, { src: picture.src, alt: picture.alt });
    image.closest('.dq-canvas').style.cssText = `--w:${picture.width};--h:${picture.height}`;
    section.querySelector('.dq-info').textContent = picture.info;
    section.querySelector('[data-role=download]').setAttribute('href', picture.src + '?download=1');
    mark();
  }

  // Shows which of several thumbnails is the one on the stage.
  function mark() {
    for (const thumb of document.querySelectorAll('#dq-stage .dq-thumb')) {
      thumb.setAttribute('aria-current', String(thumb.dataset.id === picked()));
    }
  }

  // A sentence at the corner, for what goes wrong without Gradio's knowledge.
  function notice(text) {
    const node = make('div', { className: 'dq-notice', role: 'alert', textContent: text });
    document.body.append(node);
    setTimeout(() => node.remove(), 7000);
  }

  // One picture alone in the large view.
  function large(src, text) {
    const image = make('img', { src, alt: text, onload: () => { image.style.cssText = `--w:${image.naturalWidth};--h:${image.naturalHeight}`; } });
    const close = make('button', { type: 'button', className: 'dq-close', ariaLabel: say('close'), textContent: '×', onclick: () => box.close() });
    const box = make('dialog', { className: 'dq-view', id: 'dq-large' },
      make('div', { className: 'dq-view-picture' }, image), make('div', { className: 'dq-view-words' }, make('pre', { className: 'dq-info', textContent: text })), close);
    box.addEventListener('close', () => box.remove());
    document.body.append(box);
    box.showModal();
  }

  // The large view: arrows walk through the pictures, Escape leaves.
  function view(pictures, id) {
    let at = Math.max(0, pictures.findIndex((picture) => picture.id === id));
    const image = make('img', {});
    const info = make('pre', { className: 'dq-info', tabIndex: 0 });
    const save = make('a', { className: 'dq-button', download: '', textContent: say('download') });
    const button = (key, act, look) => {
      const node = make('button', { type: 'button', className: look, textContent: say(key), onclick: () => act(node) });
      return node;
    };
    const arrow = (key, step, sign) => make('button', {
      type: 'button', className: `dq-arrow dq-${key}`, ariaLabel: say(key), textContent: sign, onclick: () => show(at + step),
    });
    const use = button('use', () => { window.danqingTriggers.stage('use', { picture: pictures[at].id }); box.close(); }, 'dq-button dq-strong');
    const sends = ['img2img', 'inpaint', 'extras'].map((tab) => button(`send_${tab}`, () => { window.danqing.send(pictures[at].id, tab); box.close(); }, 'dq-button'));
    const close = make('button', { type: 'button', className: 'dq-close', ariaLabel: say('close'), textContent: '×', onclick: () => box.close() });
    const before = arrow('previous', -1, '‹');
    const after = arrow('next', 1, '›');
    const actions = make('div', { className: 'dq-actions' }, use, button('copy', (node) => copy(pictures[at].info, node), 'dq-button'), save, ...sends);
    const box = make('dialog', { className: 'dq-view', id: 'dq-large' },
      make('div', { className: 'dq-view-picture' }, image, before, after), make('div', { className: 'dq-view-words' }, actions, info), close);
    function show(index) {
      at = Math.min(pictures.length - 1, Math.max(0, index));
      const picture = pictures[at];
      Object.assign(image, { src: picture.src, alt: picture.alt });
      image.style.cssText = `--w:${picture.width};--h:${picture.height}`;
      info.textContent = picture.info;
      save.href = picture.src + '?download=1';
      before.disabled = at === 0;
      after.disabled = at === pictures.length - 1;
    }
    box.addEventListener('keydown', (event) => {
      if (event.key === 'ArrowLeft') show(at - 1);
      if (event.key === 'ArrowRight') show(at + 1);
    });
    box.addEventListener('click', (event) => { if (event.target === box) box.close(); });
    box.addEventListener('close', () => box.remove());
    document.body.append(box);
    show(at);
    box.showModal();
    image.focus?.();
  }

  const siblings = (node) => [...node.querySelectorAll('.dq-thumb')].map(facts);

  const actions = {
    pick,
    open: (node) => view(siblings(node.closest('.dq-strip, .dq-shelf')), node.dataset.id),
    send: (node) => window.danqing.send(picked(), node.dataset.tab),
    zoom: () => {
      const section = stage();
      const several = siblings(section);
      const image = section.querySelector('.dq-zoom img');
      const alone = [{
        id: picked(), info: section.querySelector('.dq-info').textContent, alt: image.alt, src: image.getAttribute('src'),
        width: image.getAttribute('width'), height: image.getAttribute('height'),
      }];
      view(several.length ? several : alone, picked());
    },
    copy: (node) => copy(stage().querySelector('.dq-info').textContent, node),
    use: () => window.danqingTriggers.stage('use', { picture: picked() }),
    example: (node) => window.danqingTriggers.stage('example', { index: Number(node.dataset.index) }),
    hires: () => window.danqing.hires(picked()),
    language: switchLanguage,
    theme: () => setTheme(document.body.classList.contains('dark') ? 'light' : 'dark'),
  };

  function clicked(event) {
    const node = event.target.closest('[data-do]');
    if (node && actions[node.dataset.do]) actions[node.dataset.do](node);
  }

  const remembered = () => { try { return localStorage.getItem('danqing-theme'); } catch { return null; } };

  function setTheme(name) {
    try { localStorage.setItem('danqing-theme', name); } catch { /* private windows may refuse */ }
    document.body.classList.toggle('dark', name === 'dark');
  }

  // Gradio sets the theme of the system when it starts; what the reader chose here comes after it.
  function keepTheme() {
    const wanted = remembered();
    if (wanted && !new URLSearchParams(location.search).has('__theme')) {
      const dark = wanted === 'dark';
      if (document.body.classList.contains('dark') !== dark) document.body.classList.toggle('dark', dark);
    }
  }

  const DESK = ['txt2img', 'img2img', 'inpaint', 'extras'];

  function keys(event) {
    if (event.key === 'Enter' && event.altKey) document.querySelector('#dq-skip-picture')?.click();
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      const button = document.body.dataset.tab === 'extras' ? '#dq-enlarge' : '#dq-generate';
      if (DESK.includes(document.body.dataset.tab)) document.querySelector(button)?.click();
    }
    const free = !document.querySelector('dialog[open]') && !event.target.closest?.('[role=listbox],[aria-expanded=true]');
    if (event.key === 'Escape' && free && stage()?.dataset.state === 'busy') document.querySelector('#dq-interrupt')?.click();
  }

  // Draws again when a picture is finished, as long as the button is pressed.
  let busy = false;
  function forever() {
    const state = stage()?.dataset.state;
    const on = document.querySelector('#dq-forever')?.getAttribute('aria-pressed') === 'true';
    if (busy && state === 'shown' && on) setTimeout(() => document.querySelector('#dq-generate')?.click(), 200);
    busy = state === 'busy';
  }

  // What was written and not drawn yet outlives a reload, also one that nobody asked for: another language, a new server.
  const WRITTEN = 'danqing-written', TEXTS = ['#dq-prompt textarea', '#dq-negative textarea'];
  let shown = false;
  function keepWritten() {
    if (!shown) return;
    const texts = TEXTS.map((one) => document.querySelector(one)?.value ?? null);
    try { sessionStorage.setItem(WRITTEN, JSON.stringify(texts)); } catch { /* private windows may refuse */ }
  }
  // `texts`: what the page would show instead, as it was drawn last in this browser.
  function written(...texts) {
    shown = true;
    try {
      const kept = JSON.parse(sessionStorage.getItem(WRITTEN));
      return texts.map((text, place) => (typeof kept?.[place] === 'string' ? kept[place] : text));
    } catch { return texts; }
  }
  // Whoever logs in next here starts with empty boxes.
  function forget() {
    shown = false;
    try {
      sessionStorage.removeItem(WRITTEN);
      localStorage.removeItem('danqing-draft');
    } catch { /* nothing was kept */ }
  }

  // Placeholders of our own search boxes, in the page's language.
  function places() {
    for (const search of document.querySelectorAll('input[data-en]')) {
      const word = /^zh/.test(document.documentElement.lang) ? search.dataset.zh : search.dataset.en;
      if (search.placeholder !== word) search.placeholder = search.ariaLabel = word;
    }
  }

  // How far the drawing is, in the title of the window.
  function title() {
    const bar = document.querySelector('#dq-stage .dq-bar[aria-valuenow]');
    const text = (bar ? bar.getAttribute('aria-valuenow') + '% · ' : '') + 'Danqing 丹青';
    if (document.title !== text) document.title = text;
  }

  // Icon buttons show their word when the pointer rests on them.
  function hints() {
    for (const button of document.querySelectorAll('.dq-icon')) {
      const word = button.textContent.trim();
      if (button.title !== word) button.title = word;
    }
    const language = /^zh/.test(document.documentElement.lang) ? 1 : 0;
    for (const [id, told] of Object.entries(help)) {
      const box = document.getElementById(id);
      if (!box || box.title === told[language]) continue;
      box.title = told[language];
      for (const input of box.querySelectorAll('input, textarea')) input.ariaDescription = told[language];
    }
    // Gradio names the parts of a slider in English only: its label will do.
    for (const input of document.querySelectorAll('#dq-left .head + * input, #dq-left .head input')) {
      const word = input.closest('.block')?.querySelector('[data-testid=block-info]')?.textContent.trim();
      if (word && input.ariaLabel !== word) input.ariaLabel = word;
    }
  }

  // Who was logged out elsewhere is told, and shown the way in; what is written waits for them.
  let leaving = false;
  function loggedOut() {
    if (!leaving) setTimeout(() => { location.href = '/login?next=/'; }, 1500);
    leaving = true;
    return say('logged_out');
  }

  // What Gradio's notices say in English only.
  function notices() {
    for (const title of document.querySelectorAll('.toast-title.error')) {
      const text = title.firstChild;
      if (/^(Error|Connection Lost)\b/.test(text?.data || '')) text.data = text.data.replace(/^(Error|Connection Lost)/, say('error_title'));
    }
    for (const text of document.querySelectorAll('[data-testid=toast-text]')) {
      if (text.textContent.startsWith('Connection to the server was lost')) text.textContent = say('lost');
      if (text.textContent === 'Not authenticated') text.textContent = loggedOut();
    }
    for (const button of document.querySelectorAll('[data-testid=toast-close]')) {
      if (button.ariaLabel !== say('close')) button.ariaLabel = say('close');
    }
  }

  // A server that went away and came back is another one: the page begins anew with it, and its jobs come back.
  const LOOK = 4000;
  let lost = false;
  let server = '';
  async function alive() {
    try {
      // While the page is still being put together there, its waiting page takes over.
      const answer = await fetch('/healthz', { cache: 'no-store' });
      const now = answer.headers.get('x-danqing-start') || server;
      // It may have come back between two looks.
      if (answer.ok && (lost || (server && now !== server))) return location.reload();
      server = now;
    } catch { lost = true; }
    setTimeout(alive, LOOK);
  }

  function start() {
    alive();
    window.addEventListener('pagehide', keepWritten);
    document.addEventListener('keydown', keys, true);
    // A double click draws once.
    document.addEventListener('click', (event) => { if (event.detail > 1 && event.target.closest?.('#dq-generate, #dq-enlarge')) event.stopImmediatePropagation(); }, true);
    document.addEventListener('click', (event) => { if (event.target.closest('#dq-theme, #dq-language')) clicked(event); });
    new MutationObserver(keepTheme).observe(document.body, { attributes: true, attributeFilter: ['class'] });
    new MutationObserver(() => { title(); mark(); hints(); notices(); forever(); places(); window.danqing.find(); window.danqing.count(); }).observe(document.body, { childList: true, subtree: true });
    Object.assign(document.body.dataset, { tab: 'txt2img', script: '' });
    keepTheme();
  }
  if (document.body) start(); else document.addEventListener('DOMContentLoaded', start);

  return { clicked, picked, copy, say, notice, large, make, written, forget, loggedOut };
})();
