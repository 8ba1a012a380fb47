// The pose editor: key points of people as handles on a sheet, moved by pointer or keyboard; OpenPose's JSON in and out.
(() => {
  const page = window.danqing;
  const { make, say } = page;
  const { button, dialog, under, detect, take, blobOf, number } = page.editing;
  const SVG = 'http://www.w3.org/2000/svg';
  // Pairs of joints in OpenPose's order; joint and limb of one place have one colour.
  const LIMBS = [[1, 2], [1, 5], [2, 3], [3, 4], [5, 6], [6, 7], [1, 8], [8, 9], [9, 10], [1, 11], [11, 12], [12, 13], [1, 0], [0, 14], [14, 16], [0, 15], [15, 17]];
  const COLOURS = Array.from({ length: 18 }, (_, at) => `hsl(${at * 20} 100% 50%)`);
  const MIRRORED = [0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16];
  const BLANK = [[0, -0.37], [0, -0.22], [-0.115, -0.2], [-0.17, -0.04], [-0.19, 0.12], [0.115, -0.2], [0.17, -0.04], [0.19, 0.12], [-0.065, 0.11],
    [-0.08, 0.3], [-0.085, 0.48], [0.065, 0.11], [0.08, 0.3], [0.085, 0.48], [-0.035, -0.39], [0.035, -0.39], [-0.08, -0.37], [0.08, -0.37]];
  const PARTS = { body: 'pose_keypoints_2d', left: 'hand_left_keypoints_2d', right: 'hand_right_keypoints_2d', face: 'face_keypoints_2d' };
  // What hangs on a joint and goes with it.
  const HANGS = { 0: 'face', 4: 'right', 7: 'left' };
  const LONGEST = { body: 18, left: 21, right: 21, face: 70 };
  const kept = new Map();

  const blank = (width, height, at = 0.5) => {
    const tall = Math.min(0.86 * height, 1.9 * width);
    return { body: BLANK.map(([x, y]) => [width * at + x * tall, height / 2 + y * tall, 1]), left: [], right: [], face: [] };
  };

  // OpenPose's JSON as points in pixels of `width` x `height`; points may be fractions in the file.
  function read(json, width, height) {
    const [wide, high] = [Number(json?.canvas_width), Number(json?.canvas_height)];
    if (!(wide > 0 && high > 0) || !Array.isArray(json.people)) throw new Error(say('pose_bad'));
    const points = (flat, most) => {
      if (flat === null || flat === undefined) return [];
      if (!Array.isArray(flat) || flat.length % 3 || flat.length > 3 * most || !flat.every(Number.isFinite)) throw new Error(say('pose_bad'));
      const places = flat.flatMap((value, at) => (at % 3 < 2 && flat[at - at % 3 + 2] > 0 ? [value] : []));
      const [across, down] = places.length && Math.max(...places) <= 1 ? [1, 1] : [wide, high];
      return Array.from({ length: flat.length / 3 }, (_, at) => [flat[3 * at] / across * width, flat[3 * at + 1] / down * height, flat[3 * at + 2] > 0 ? 1 : 0]);
    };
    return json.people.map((one) => {
      const person = Object.fromEntries(Object.entries(PARTS).map(([part, key]) => [part, points(one?.[key], LONGEST[part])]));
      while (person.body.length < 18) person.body.push([0, 0, 0]);
      return person;
    });
  }

  function written(people, width, height) {
    const flat = (points) => (points.length ? points.flatMap(([x, y, there]) => (there ? [Math.round(x * 100) / 100, Math.round(y * 100) / 100, 1] : [0, 0, 0])) : null);
    return { people: people.map((one) => Object.fromEntries(Object.entries(PARTS).map(([part, key]) => [key, flat(one[part])]))), canvas_width: width, canvas_height: height };
  }

  class Editor {
    constructor(unit, json) {
      Object.assign(this, { unit, width: number('dq-width'), height: number('dq-height'), chosen: 0, past: [] });
      const last = kept.get(unit);
      this.people = json ? read(json, this.width, this.height) : last ? read(last, this.width, this.height) : [blank(this.width, this.height)];
      this.sheet = document.createElementNS(SVG, 'svg');
      this.sheet.setAttribute('viewBox', `0 0 ${this.width} ${this.height}`);
      this.sheet.setAttribute('role', 'group');
      this.sheet.setAttribute('aria-label', say('pose_title'));
      this.board = make('div', { className: 'dq-sheet' }, this.sheet);
      this.board.style.cssText = `--w:${this.width};--h:${this.height}`;
      const change = (word, act) => button(word, () => { this.remember(); act(); this.draw(); }, 'dq-tool');
      this.file = make('input', { type: 'file', accept: '.json,application/json', hidden: true, onchange: () => this.open() });
      const { status } = dialog('pose_title', 'pose_hint', this.board, [
        change('pose_add', () => { this.chosen = this.people.push(blank(this.width, this.height, 0.3 + 0.4 * ((this.people.length * 0.37) % 1))) - 1; }),
        change('pose_remove', () => { this.people.splice(this.chosen, 1); this.chosen = 0; }),
        change('pose_bigger', () => this.scale(1.08)), change('pose_smaller', () => this.scale(1 / 1.08)),
        change('pose_mirror', () => this.mirror()), change('pose_all', () => this.complete()),
        button('edit_undo', () => this.undo(), 'dq-tool'), button('pose_detect', (event) => this.detect(event.target), 'dq-tool'),
        button('pose_open', () => this.file.click(), 'dq-tool'), this.file, button('pose_save', () => this.save(), 'dq-tool'),
        ...under(unit, this.board),
      ], () => this.use());
      this.status = status;
      this.sheet.addEventListener('pointerdown', (event) => this.grab(event));
      this.sheet.addEventListener('pointermove', (event) => this.drag(event));
      this.sheet.addEventListener('pointerup', () => { this.held = null; });
      this.sheet.addEventListener('keydown', (event) => this.key(event));
      this.draw();
    }

    remember() { this.past.push(JSON.stringify(this.people)); this.past.splice(0, this.past.length - 100); }
    undo() { if (this.past.length) { this.people = JSON.parse(this.past.pop()); this.chosen = Math.min(this.chosen, Math.max(0, this.people.length - 1)); this.draw(); } }
    get person() { return this.people[this.chosen]; }

    draw(focus) {
      const unit = Math.max(this.width, this.height) / 128;
      const node = (kind, values) => {
        const one = document.createElementNS(SVG, kind);
        for (const [key, value] of Object.entries(values)) one.setAttribute(key, value);
        return one;
      };
      this.sheet.replaceChildren(...this.people.flatMap((one, who) => {
        const look = who === this.chosen ? 1 : 0.55;
        const limbs = LIMBS.flatMap(([a, b], at) => {
          const [from, to] = [one.body[a], one.body[b]];
          if (!from[2] || !to[2]) return [];
          return [node('line', { x1: from[0], y1: from[1], x2: to[0], y2: to[1], stroke: COLOURS[at], 'stroke-width': 2.4 * unit, 'stroke-linecap': 'round', opacity: 0.7 * look, 'data-who': who })];
        });
        const more = ['left', 'right', 'face'].flatMap((part) => one[part].filter((point) => point[2]).map(([x, y]) => node('circle', { cx: x, cy: y, r: 0.6 * unit, fill: part === 'face' ? '#fff' : '#4466ff', opacity: look })));
        const joints = one.body.flatMap(([x, y, there], at) => (there ? [node('circle', {
          cx: x, cy: y, r: 1.9 * unit, fill: COLOURS[at], stroke: '#fff', 'stroke-width': 0.4 * unit, opacity: look, tabindex: 0, role: 'button',
          'aria-label': `${say('pose_figure')} ${who + 1}: ${say(`joint_${at}`)} ${Math.round(x)}, ${Math.round(y)}`, 'data-who': who, 'data-joint': at,
        })] : []));
        return [...limbs, ...more, ...joints];
      }));
      if (this.status) this.status.textContent = this.people.length ? '' : say('pose_empty');
      if (focus) this.sheet.querySelector(`[data-who="${focus[0]}"][data-joint="${focus[1]}"]`)?.focus();
    }

    place(event) {
      const area = this.sheet.getBoundingClientRect();
      return [(event.clientX - area.left) / area.width * this.width, (event.clientY - area.top) / area.height * this.height];
    }

    // The joint under the pointer or, for fingers, the nearest one within reach.
    nearest(event) {
      if (event.target.dataset.joint !== undefined) return event.target;
      const gap = (one) => { const area = one.getBoundingClientRect(); return Math.hypot(area.left + area.width / 2 - event.clientX, area.top + area.height / 2 - event.clientY); };
      const reach = event.pointerType === 'touch' ? 22 : 9;
      const [first] = [...this.sheet.querySelectorAll('[data-joint]')].map((one) => [gap(one), one]).sort((a, b) => a[0] - b[0]);
      return first && first[0] <= reach ? first[1] : event.target.closest('[data-who]');
    }

    grab(event) {
      const at = this.nearest(event);
      if (!at) return;
      event.preventDefault();
      this.sheet.setPointerCapture(event.pointerId);
      this.remember();
      this.chosen = Number(at.dataset.who);
      this.held = { joint: at.dataset.joint === undefined ? null : Number(at.dataset.joint), from: this.place(event) };
      this.draw(this.held.joint === null ? null : [this.chosen, this.held.joint]);
    }

    drag(event) {
      if (!this.held) return;
      const now = this.place(event);
      const step = [now[0] - this.held.from[0], now[1] - this.held.from[1]];
      this.held.from = now;
      if (this.held.joint === null || event.shiftKey) this.shift(...step); else this.move(this.held.joint, ...step);
      this.draw();
    }

    // One joint, within the sheet, and what hangs on it.
    move(joint, x, y) {
      const point = this.person.body[joint];
      const to = [Math.min(this.width, Math.max(0, point[0] + x)), Math.min(this.height, Math.max(0, point[1] + y))];
      for (const one of this.person[HANGS[joint]] || []) { one[0] += to[0] - point[0]; one[1] += to[1] - point[1]; }
      [point[0], point[1]] = to;
    }

    points() { return Object.keys(PARTS).flatMap((part) => this.person?.[part] || []); }
    shift(x, y) { for (const one of this.points()) { one[0] += x; one[1] += y; } }

    scale(factor) {
      const seen = this.points().filter((one) => one[2]);
      const middle = [0, 1].map((axis) => seen.reduce((sum, one) => sum + one[axis], 0) / (seen.length || 1));
      for (const one of this.points()) for (const axis of [0, 1]) one[axis] = middle[axis] + (one[axis] - middle[axis]) * factor;
    }

    mirror() {
      const one = this.person;
      if (!one) return;
      const across = one.body.filter((point) => point[2]).map((point) => point[0]);
      const sum = Math.min(...across) + Math.max(...across);
      for (const point of this.points()) point[0] = sum - point[0];
      one.body = MIRRORED.map((at) => one.body[at]);
      [one.left, one.right] = [one.right, one.left];
    }

    // Hidden joints come back where a blank figure of this height has them.
    complete() {
      const one = this.person;
      if (!one) return;
      const seen = one.body.map((point, at) => [point, at]).filter(([point]) => point[2]);
      const base = blank(this.width, this.height).body;
      const shift = seen.length ? [0, 1].map((axis) => seen.reduce((sum, [point, at]) => sum + point[axis] - base[at][axis], 0) / seen.length) : [0, 0];
      one.body.forEach((point, at) => { if (!point[2]) one.body[at] = [base[at][0] + shift[0], base[at][1] + shift[1], 1]; });
    }

    key(event) {
      const at = event.target.closest('[data-joint]');
      if (!at) return;
      const [who, joint] = [Number(at.dataset.who), Number(at.dataset.joint)];
      const far = Math.max(1, Math.round(Math.max(this.width, this.height) / 128)) * (event.shiftKey ? 8 : 1);
      const step = { ArrowLeft: [-far, 0], ArrowRight: [far, 0], ArrowUp: [0, -far], ArrowDown: [0, far] }[event.key];
      if (!step && !['Delete', 'Backspace'].includes(event.key)) return;
      event.preventDefault();
      this.remember();
      this.chosen = who;
      if (step) this.move(joint, ...step); else this.person.body[joint][2] = 0;
      this.draw([who, joint]);
    }

    async detect(node) {
      node.disabled = true;
      this.status.textContent = say('control_working');
      try {
        const told = await detect(this.unit, 'openpose_full');
        const people = read(told.poses[0], this.width, this.height);
        if (!people.length) throw new Error(say('pose_none_found'));
        this.remember();
        Object.assign(this, { people, chosen: 0 });
        this.draw();
      } catch (error) { this.status.textContent = error.message; } finally { node.disabled = false; }
    }

    async open() {
      try {
        let json = null;
        try { json = JSON.parse(await this.file.files[0].text()); } catch { throw new Error(say('pose_bad')); }
        const people = read(Array.isArray(json) ? json[0] : json, this.width, this.height);
        this.remember();
        Object.assign(this, { people, chosen: 0 });
        this.draw();
      } catch (error) { this.status.textContent = error.message; } finally { this.file.value = ''; }
    }

    save() {
      const blob = new Blob([JSON.stringify(written(this.people, this.width, this.height))], { type: 'application/json' });
      const link = make('a', { href: URL.createObjectURL(blob), download: 'pose.json' });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    }

    async use() {
      if (!this.people.length) throw new Error(say('pose_empty'));
      const json = written(this.people, this.width, this.height);
      const told = await page.post('/controlnet/render_openpose_json', [json]);
      kept.set(this.unit, json);
      await take(this.unit, await blobOf(told.images[0]), 'pose');
    }
  }

  page.pose = (unit, json) => { try { return new Editor(unit, json); } catch (error) { return page.notice(error.message); } };
})();
