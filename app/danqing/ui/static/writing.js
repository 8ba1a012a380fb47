// Writing prompts: weights by keys, completion in both languages, token counts, translation, tags of networks, infotexts.
(() => {
  const page = window.danqing;
  const box = (id) => document.querySelector(`#${id} textarea`);
  const AREAS = ['dq-prompt', 'dq-negative'];
  let last = null;

  function put(area, text, start, end) {
    Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, 'value').set.call(area, text);
    area.dispatchEvent(new Event('input', { bubbles: true }));
    area.focus();
    area.setSelectionRange(start, end);
  }

  // Ctrl+Up and Ctrl+Down: (word:1.1) for what is selected, or for the word or tag at the cursor.
  function weigh(area, up) {
    let { value, selectionStart: start, selectionEnd: end } = area;
    const tag = [...value.matchAll(/<[^<>]*>|\([^()]*:[\d.]+\)/g)].find((one) => one.index <= start && start <= one.index + one[0].length);
    if (start === end && tag) [start, end] = [tag.index, tag.index + tag[0].length];
    if (start === end) {
      const stop = /[\s,.，。、()（）<>|]/;
      while (start > 0 && !stop.test(value[start - 1])) start -= 1;
      while (end < value.length && !stop.test(value[end])) end += 1;
    }
    let chosen = value.slice(start, end);
    if (!chosen.trim()) return;
    const step = chosen.startsWith('<') ? 0.05 : 0.1;
    const around = value.slice(end).match(/^:([\d.]+)\)/);
    if (value[start - 1] === '(' && around) {
      chosen = `(${chosen}:${around[1]})`;
      start -= 1;
      end += around[0].length;
    }
    const [, head, weight, close] = chosen.match(/^(.*):(-?[\d.]+)([)>])$/s) || [];
    const from = weight === undefined ? 1 : Number(weight);
    const next = Math.round((from + (up ? step : -step)) * 100) / 100;
    const body = head === undefined ? (chosen.startsWith('<') ? chosen.slice(0, -1) : `(${chosen}`) : head;
    const plain = next === 1 && !body.startsWith('<');
    const made = plain ? body.slice(1) : `${body}:${next}${close || (chosen.startsWith('<') ? '>' : ')')}`;
    put(area, value.slice(0, start) + made + value.slice(end), start + (plain || made[0] === '<' ? 0 : 1), start + (plain || made[0] === '<' ? made.length : body.length));
  }

  // Alt+Left and Alt+Right move the tag at the cursor past its neighbour.
  function move(area, step) {
    const parts = area.value.split(',');
    let at = 0, before = 0;
    while (at < parts.length - 1 && before + parts[at].length < area.selectionStart) before += parts[at++].length + 1;
    const other = at + step;
    if (other < 0 || other >= parts.length) return;
    const bare = parts.map((part) => part.trim());
    [bare[at], bare[other]] = [bare[other], bare[at]];
    const start = bare.slice(0, other).reduce((sum, part) => sum + part.length + 2, 0);
    put(area, bare.join(', '), start, start + bare[other].length);
  }

  // Completion: a list below the box, of terms that begin like what stands before the cursor.
  let list = null, rows = [], at = 0, asked = 0;
  const stretch = (area) => area.value.slice(0, area.selectionStart).match(/[^,，、。;；\n()（）[\]|:]*$/)[0].trimStart();
  function close() { list?.remove(); list = null; rows = []; }
  async function complete(area) {
    const wanted = stretch(area);
    const mine = ++asked;
    if (wanted.length > 40 || wanted.length < (/[\u4e00-\u9fff]/.test(wanted) ? 1 : 2)) return close();
    try {
      const found = await (await fetch(`/ui/terms?q=${encodeURIComponent(wanted)}`)).json();
      if (mine !== asked || document.activeElement !== area) return;
      close();
      if (found.length) show(area, found, wanted);
    } catch { close(); }
  }
  function show(area, found, wanted) {
    rows = found;
    at = -1;
    list = document.createElement('ul');
    list.className = 'dq-terms';
    list.setAttribute('role', 'listbox');
    rows.forEach((row, index) => {
      const item = document.createElement('li');
      item.setAttribute('role', 'option');
      item.append(row.text, Object.assign(document.createElement('small'), { textContent: row.note }));
      item.onpointerdown = (event) => { event.preventDefault(); choose(area, index, wanted); };
      list.append(item);
    });
    area.closest('.block').append(list);
  }
  function light() { [...list.children].forEach((item, index) => item.setAttribute('aria-selected', String(index === at))); }
  function choose(area, index) {
    const wanted = stretch(area), end = area.selectionStart;
    // What is Chinese stays Chinese where the writer wrote Chinese: the translation shows what it means.
    const row = rows[index];
    const text = /[\u4e00-\u9fff]/.test(wanted) && document.body.dataset.english !== '1' ? row.note : row.text;
    const word = /^[<a-z]/i.test(row.note) ? row.text : text;
    const start = end - wanted.length;
    close();
    put(area, `${area.value.slice(0, start)}${word}, ${area.value.slice(end).replace(/^[,，]\s*/, '')}`, start + word.length + 2, start + word.length + 2);
  }

  function keys(event) {
    const area = event.target;
    if (!AREAS.some((id) => box(id) === area)) return;
    if (list && ['ArrowDown', 'ArrowUp'].includes(event.key) && !event.ctrlKey) {
      event.preventDefault();
      at = (at + (event.key === 'ArrowDown' ? 1 : -1) + rows.length) % rows.length;
      return light();
    }
    if (list && (event.key === 'Tab' || (event.key === 'Enter' && !event.ctrlKey)) && (at >= 0 || event.key === 'Tab')) {
      event.preventDefault();
      return choose(area, Math.max(0, at));
    }
    if (list && event.key === 'Escape') { event.stopPropagation(); return close(); }
    if ((event.ctrlKey || event.metaKey) && ['ArrowUp', 'ArrowDown'].includes(event.key)) { event.preventDefault(); weigh(area, event.key === 'ArrowUp'); }
    if (event.altKey && ['ArrowLeft', 'ArrowRight'].includes(event.key)) { event.preventDefault(); move(area, event.key === 'ArrowLeft' ? -1 : 1); }
  }

  // How long the prompts are, and what the model reads of a Chinese one.
  let timer = 0;
  async function count() {
    const prompt = box('dq-prompt')?.value || '', negative = box('dq-negative')?.value || '';
    const model = document.querySelector('#dq-model-menu input')?.value || '';
    const translate = document.querySelector('#dq-translate input:checked')?.value || 'auto';
    document.body.dataset.chinese = /[\u4e00-\u9fff]/.test(prompt + negative) ? '1' : '0';
    const key = JSON.stringify([prompt, negative, model, translate]);
    if (key === last) return;
    last = key;
    try {
      const told = await page.post('/ui/words', { prompt, negative, model, translate });
      if (key !== last) return;
      AREAS.forEach((id, index) => counter(id, told.tokens[index]));
      document.body.dataset.english = told.english.length ? '1' : '0';
      page.write('dq-english', told.english[0] || '');
      page.write('dq-english-negative', told.english[1] || '');
    } catch { last = null; }
  }
  function counter(id, [used, room]) {
    const label = document.querySelector(`#${id} [data-testid=block-info]`);
    if (!label) return;
    const mark = label.parentNode.querySelector('.dq-tokens') || label.parentNode.insertBefore(Object.assign(document.createElement('span'), { className: 'dq-tokens' }), label.nextSibling);
    mark.textContent = `${used} / ${room}`;
    mark.title = page.say('tokens');
  }
  function soon() { clearTimeout(timer); timer = setTimeout(count, 350); }

  // Puts a network's tag into the prompt, or takes it out again. Embeddings are words, also of the negative prompt.
  let written = AREAS[0];
  document.addEventListener('focusin', (event) => { written = AREAS.find((id) => box(id) === event.target) || written; });
  page.insert = (tag, words) => {
    const network = tag.startsWith('<'), area = box(network ? AREAS[0] : written);
    const name = (network ? tag.split(':').slice(0, 2).join(':') + ':' : tag).replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
    const found = area.value.match(new RegExp(network ? `,?\\s*${name}[^>]*>` : `(?:^|,\\s*)${name}(?=\\s*(?:,|$))`));
    const more = [tag, words].filter(Boolean).join(', ');
    const text = found ? area.value.replace(found[0], '') : [area.value.replace(/[,\s]+$/, ''), more].filter(Boolean).join(', ');
    put(area, text, text.length, text.length);
  };

  async function browse() {
    const frame = document.querySelector('.dq-browser');
    frame.hidden = !frame.hidden;
    if (frame.hidden) return;
    const answer = await fetch('/ui/networks').catch(() => null);
    if (answer?.ok) frame.innerHTML = await answer.text(); else if (answer) page.refused(frame, answer); else page.notice(page.say('lost'));
  }

  // An example of the guide; a negative prompt of the writer's own stays where it brings none.
  function fill(told, language) {
    const [prompt, negative] = ['prompt', 'negative'].map((word) => told[word + language]);
    if (negative) put(box(AREAS[1]), negative, 0, 0);
    put(box(AREAS[0]), prompt, prompt.length, prompt.length);
  }

  page.askStyle = () => window.prompt(page.say('style_name')) || '';
  page.askPreset = () => window.prompt(page.say('preset_name')) || '';
  page.paste = (text) => window.danqingTriggers.stage('paste', { text });

  // The parameters of a picture, or of a text that was saved beside one, into the boxes.
  page.readFiles = async (files) => {
    const file = files.find((one) => one.type.startsWith('image/') || one.name.endsWith('.txt'));
    if (!file) return files.length && page.notice(page.say('no_picture'));
    try {
      const text = file.name.endsWith('.txt') ? await file.text() : (await page.keep(file)).infotext;
      if (text) page.paste(text); else page.notice(page.say('info_none'));
    } catch (error) { page.notice(error.message); }
  };

  function dropped(event) {
    const files = [...event.dataTransfer.files], sent = event.dataTransfer.getData('text/dq-picture');
    if (event.target.closest('.dq-well') || !(files.length || sent)) return;
    event.preventDefault();
    event.stopPropagation();
    if (sent) window.danqingTriggers.stage('use', { picture: sent }); else page.readFiles(files);
  }

  document.addEventListener('keydown', keys, true);
  document.addEventListener('input', (event) => {
    if (AREAS.some((id) => box(id) === event.target)) { soon(); complete(event.target); }
  });
  document.addEventListener('focusout', (event) => { if (AREAS.some((id) => box(id) === event.target)) setTimeout(close, 150); });
  document.addEventListener('change', soon);
  for (const kind of ['dragover', 'drop']) {
    document.addEventListener(kind, (event) => {
      if (!event.target.closest?.('#dq-prompts')) return;
      if (kind === 'dragover') event.preventDefault(); else dropped(event);
    }, true);
  }
  document.addEventListener('click', (event) => {
    const button = event.target.closest('#dq-read, #dq-clear, #dq-browse, #dq-forever, [data-insert], [data-try]');
    if (!button) return;
    if ('try' in button.dataset) return fill(button.dataset, /^zh/.test(document.documentElement.lang) ? 'Zh' : 'En');
    if (button.dataset.insert) return page.insert(button.dataset.insert, button.dataset.words || '');
    if (button.id === 'dq-read') page.paste(/Steps: \d+/.test(box('dq-prompt').value) ? box('dq-prompt').value : '');
    if (button.id === 'dq-clear') AREAS.forEach((id) => put(box(id), '', 0, 0));
    if (button.id === 'dq-browse') browse();
    if (button.id === 'dq-forever') button.setAttribute('aria-pressed', String(button.getAttribute('aria-pressed') !== 'true'));
  });
  page.count = soon;
})();
