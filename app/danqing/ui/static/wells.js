// Input pictures: dropped, pasted, chosen or sent; painted on; kept by the server under a name that a hidden box holds.
(() => {
  const page = window.danqing;
  const wells = new Map();
  const shot = (name) => `/ui/inputs/${name}`;

  async function ask(path, body, type, form = 'json') {
    const answer = await fetch(path, { method: 'POST', body, headers: { 'Content-Type': type } }).catch(() => { throw new Error(page.say('lost')); });
    if (answer.ok) return answer[form]();
    if (answer.status === 401) throw new Error(page.loggedOut());
    // What stands between us and the server answers in a format of its own.
    const told = await answer.json().catch(() => ({}));
    const plain = answer.status === 413 ? page.say('too_large') : `${page.say('error_title')} (${answer.status})`;
    throw new Error(told.errors || (typeof told.detail === 'string' && told.detail) || plain);
  }
  const keep = (blob) => ask('/ui/inputs', blob, 'application/octet-stream');
  const post = (path, value) => ask(path, JSON.stringify(value), 'application/json');

  // Writes into one of Gradio's boxes as a person would.
  function write(id, value) {
    const box = document.querySelector(`#${id} :is(textarea, input[type=number], input)`);
    if (!box || box.value === String(value)) return;
    const kind = box.tagName === 'TEXTAREA' ? HTMLTextAreaElement : HTMLInputElement;
    Object.getOwnPropertyDescriptor(kind.prototype, 'value').set.call(box, value);
    box.dispatchEvent(new Event('input', { bubbles: true }));
    if (box.type === 'number') box.dispatchEvent(new Event('blur'));
  }

  // The size boxes follow the picture, in steps of 8, within what their sliders allow.
  function fit(width, height) {
    const most = Number(document.querySelector('#dq-width input[type=range]')?.max || 2048);
    const scale = Math.min(1, most / Math.max(width, height));
    write('dq-width', Math.max(64, Math.round(width * scale / 8) * 8));
    write('dq-height', Math.max(64, Math.round(height * scale / 8) * 8));
  }

  class Well {
    constructor(node) {
      this.node = node;
      this.name = node.dataset.well;
      this.paint = node.dataset.paint || '';
      this.many = 'many' in node.dataset;
      this.file = node.querySelector('input[type=file]');
      this.image = node.querySelector('.dq-board img');
      this.canvas = node.querySelector('canvas');
      this.names = [];
      this.reset();
      node.addEventListener('click', (event) => this.clicked(event));
      this.file.addEventListener('cancel', () => { this.wantsMask = false; });
      this.file.addEventListener('change', () => { this.take([...this.file.files]); this.file.value = ''; });
      for (const kind of ['dragover', 'drop']) node.addEventListener(kind, (event) => this.dropped(event));
      node.addEventListener('dragleave', () => node.classList.remove('dq-over'));
      if (this.paint) this.brushes();
    }

    reset() { Object.assign(this, { strokes: [], mask: null, dirty: false, tool: this.paint === 'mask' ? 'brush' : '' }); }

    dropped(event) {
      event.preventDefault();
      event.stopPropagation();
      this.node.classList.toggle('dq-over', event.type === 'dragover');
      if (event.type !== 'drop') return;
      this.wantsMask = false;
      const sent = event.dataTransfer.getData('text/dq-picture');
      if (sent) page.send(sent, this.name); else this.take([...event.dataTransfer.files]);
    }

    async take(files) {
      const pictures = files.filter((file) => file.type.startsWith('image/'));
      if (!pictures.length) return files.length && page.notice(page.say('no_picture'));
      const mask = this.wantsMask;
      this.wantsMask = false;
      this.node.classList.add('dq-busy');
      try {
        if (mask) return await this.loadMask(pictures[0]);
        const kept = [];
        for (const file of this.many ? pictures : pictures.slice(0, 1)) kept.push(await keep(file));
        this.put(kept);
      } catch (error) { page.notice(error.message); } finally { this.node.classList.remove('dq-busy'); }
    }

    put(kept) {
      this.reset();
      if (this.paint) write(this.node.dataset.painted, '');
      if (kept.length && ['init', 'inpaint_image'].includes(this.name)) fit(kept[0].width, kept[0].height);
      if (this.name === 'info_image') page.information(kept[0]?.infotext || '', kept[0]?.name || '');
      this.show(kept.map((one) => one.name));
      write(this.node.dataset.box, this.names.join(' '));
    }

    show(names) {
      this.names = names;
      const one = names.length === 1;
      this.node.querySelector('.dq-drop').hidden = names.length > 0;
      this.node.querySelector('.dq-board').hidden = !one;
      this.node.querySelector('.dq-tools').hidden = !names.length;
      this.node.classList.toggle('dq-several', names.length > 1);
      const tray = this.node.querySelector('.dq-tray');
      tray.hidden = names.length < 2;
      tray.replaceChildren(...(names.length > 1 ? names.map((name) => Object.assign(document.createElement('img'), { src: shot(name), alt: this.image.alt })) : []));
      this.image.src = one ? shot(names[0]) : 'data:,';
      this.image.onload = () => {
        this.image.parentNode.style.cssText = `--w:${this.image.naturalWidth};--h:${this.image.naturalHeight}`;
        if (this.paint) this.redraw();
      };
      this.marks();
    }

    // What the server says that the box holds: after a reload, or when the page was filled.
    told(value) {
      const names = (value || '').split(/\s+/).filter(Boolean);
      if (names.join(' ') !== this.names.join(' ')) { this.reset(); this.show(names); }
    }

    clicked(event) {
      const act = event.target.closest('[data-well-do]')?.dataset.wellDo;
      if (!act) return;
      if (act === 'choose') this.file.click();
      if (act === 'remove') this.put([]);
      if (act === 'mask') { this.wantsMask = true; this.file.click(); }
      if (act === 'brush' || act === 'eraser') { this.tool = this.tool === act ? '' : act; this.marks(); }
      if (act === 'undo') { this.strokes.pop(); this.changed(); }
      if (act === 'wipe') { this.strokes = []; this.mask = null; this.changed(); }
    }

    marks() {
      for (const one of this.node.querySelectorAll('[aria-pressed]')) one.setAttribute('aria-pressed', String(one.dataset.wellDo === this.tool));
      this.canvas.style.pointerEvents = this.tool && this.paint ? 'auto' : 'none';
    }

    brushes() {
      const place = (event) => {
        const area = this.canvas.getBoundingClientRect();
        return [(event.clientX - area.left) / area.width * this.canvas.width, (event.clientY - area.top) / area.height * this.canvas.height];
      };
      const value = (kind) => this.node.querySelector(`input[type=${kind}]`)?.value;
      this.canvas.addEventListener('pointerdown', (event) => {
        event.preventDefault();
        this.canvas.setPointerCapture(event.pointerId);
        // The brush is as wide on the screen whatever the picture measures.
        const size = Number(value('range')) * this.canvas.width / this.canvas.getBoundingClientRect().width;
        this.strokes.push({ points: [place(event)], size, color: value('color') || '#fff', erase: this.tool === 'eraser' });
        this.changed();
      });
      this.canvas.addEventListener('pointermove', (event) => {
        if (!this.canvas.hasPointerCapture(event.pointerId)) return;
        this.strokes.at(-1).points.push(place(event));
        this.changed();
      });
    }

    changed() { this.dirty = true; this.redraw(); }

    redraw() {
      if (!this.image.naturalWidth) return;
      if (this.canvas.width !== this.image.naturalWidth || this.canvas.height !== this.image.naturalHeight) {
        Object.assign(this.canvas, { width: this.image.naturalWidth, height: this.image.naturalHeight });
      }
      this.strokesOn(this.canvas.getContext('2d'));
    }

    strokesOn(pen) {
      pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
      if (this.mask) pen.drawImage(this.mask, 0, 0, this.canvas.width, this.canvas.height);
      pen.lineCap = pen.lineJoin = 'round';
      for (const { points, size, color, erase } of this.strokes) {
        pen.globalCompositeOperation = erase ? 'destination-out' : 'source-over';
        pen.strokeStyle = pen.fillStyle = this.paint === 'mask' ? '#cb4b33' : color;
        pen.lineWidth = size;
        pen.beginPath();
        pen.moveTo(...points[0]);
        for (const point of points) pen.lineTo(...point);
        pen.lineTo(points.at(-1)[0] + 0.01, points.at(-1)[1]);
        pen.stroke();
      }
      pen.globalCompositeOperation = 'source-over';
    }

    // A mask from a file: its brightness becomes the paint.
    async loadMask(file) {
      const source = await createImageBitmap(file).catch(() => { throw new Error(page.say('no_picture')); });
      const sheet = Object.assign(document.createElement('canvas'), { width: source.width, height: source.height });
      const pen = sheet.getContext('2d');
      pen.drawImage(source, 0, 0);
      const pixels = pen.getImageData(0, 0, sheet.width, sheet.height);
      for (let at = 0; at < pixels.data.length; at += 4) {
        const bright = Math.max(pixels.data[at], pixels.data[at + 1], pixels.data[at + 2]) * pixels.data[at + 3] / 255;
        pixels.data.set([203, 75, 51, bright], at);
      }
      pen.putImageData(pixels, 0, 0);
      this.mask = sheet;
      this.changed();
    }

    // Hands what was painted to the server, if it has changed.
    async settle() {
      if (!this.paint || !this.dirty || this.names.length !== 1) return;
      const empty = !this.strokes.length && !this.mask;
      let name = '';
      if (!empty) {
        const sheet = Object.assign(document.createElement('canvas'), { width: this.canvas.width, height: this.canvas.height });
        const pen = sheet.getContext('2d');
        pen.drawImage(this.canvas, 0, 0);
        if (this.paint === 'mask') {
          // White where there is paint, black elsewhere.
          pen.globalCompositeOperation = 'source-in';
          pen.fillStyle = '#fff';
          pen.fillRect(0, 0, sheet.width, sheet.height);
        }
        pen.globalCompositeOperation = 'destination-over';
        if (this.paint === 'mask') { pen.fillStyle = '#000'; pen.fillRect(0, 0, sheet.width, sheet.height); } else pen.drawImage(this.image, 0, 0);
        name = (await keep(await new Promise((done) => sheet.toBlob(done, 'image/png')))).name;
      }
      write(this.node.dataset.painted, name);
      this.dirty = false;
    }
  }

  function find() {
    for (const node of document.querySelectorAll('.dq-well')) {
      const known = wells.get(node.dataset.well);
      if (known?.node === node) continue;
      const well = new Well(node);
      const names = known?.names || waiting.get(well.name);
      wells.set(well.name, well);
      if (names?.length) well.show(names);
    }
  }
  const waiting = new Map();

  // Sends a finished picture of the gallery, by its id, or an input picture, by its name, to a tab or a place.
  page.send = async (picture, target, kept) => {
    const name = { img2img: 'init', inpaint: 'inpaint_image', extras: 'extras_images' }[target] || target;
    try {
      const one = kept || await post('/ui/send', { picture });
      wells.get(name)?.put([one]);
      if (name !== target) page.choose(target);
    } catch (error) { page.notice(error.message); }
  };

  // A finished picture becomes the first pass of hires fix, with the boxes as they stand.
  page.hires = async (picture) => {
    try {
      const one = await post('/ui/send', { picture });
      page.choose('txt2img');
      write('dq-width', one.width);
      write('dq-height', one.height);
      write('dq-first-pass', one.name);
      setTimeout(() => document.querySelector('#dq-generate').click(), 150);
    } catch (error) { page.notice(error.message); }
  };

  page.well = (name, value) => {
    const well = wells.get(name);
    if (well) well.told(value); else waiting.set(name, (value || '').split(/\s+/).filter(Boolean));
  };
  page.settled = async () => {
    try { for (const well of wells.values()) await well.settle(); } catch (error) { page.notice(error.message); }
  };

  // The names of what lies in a well, and a picture put into it.
  page.pictures = (name) => wells.get(name)?.names || [];
  page.put = (name, one) => wells.get(name)?.put([one]);

  Object.assign(page, { ask, keep, post, write, find });
  const here = () => wells.get({ img2img: 'init', inpaint: 'inpaint_image', extras: 'extras_images', info: 'info_image' }[document.body.dataset.tab]);
  document.addEventListener('paste', (event) => {
    const files = [...(event.clipboardData?.files || [])].filter((file) => file.type.startsWith('image/'));
    const well = files.length && here();
    if (well) { event.preventDefault(); well.take(files); }
  });
  // Pictures of the page are dragged by their ids: a browser would hand over what it has in memory, without its parameters.
  document.addEventListener('dragstart', (event) => {
    const shown = event.target.closest?.('.dq-thumb, .dq-zoom');
    if (shown) event.dataTransfer.setData('text/dq-picture', shown.dataset.id || page.picked());
  });
  // A browser opens a file that is dropped beside every place for one, and what is written here is gone: the tab takes it.
  for (const kind of ['dragover', 'drop']) {
    document.addEventListener(kind, (event) => {
      if (event.defaultPrevented || !event.dataTransfer?.types.includes('Files')) return;
      event.preventDefault();
      if (kind === 'dragover' || event.dataTransfer.types.includes('text/dq-picture')) return;
      const files = [...event.dataTransfer.files], well = here();
      if (well) well.take(files); else if (document.body.dataset.tab === 'txt2img') page.readFiles(files);
    });
  }
})();
