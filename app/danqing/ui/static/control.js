// ControlNet units: what a preprocessor makes of a picture, shown below it, and a sheet to draw a control picture on.
(() => {
  const page = window.danqing;
  const { make, say } = page;
  const button = (word, act, look = 'dq-button') => make('button', { type: 'button', className: look, textContent: say(word), onclick: act });
  const number = (id) => Number(document.querySelector(`#${id} input[type=number]`)?.value) || 512;
  const unitPicture = (unit) => page.pictures(`control${unit}_image`)[0];

  // The picture a unit looks at: its own, else the input picture of the tab.
  function seen(unit) {
    const tab = document.body.dataset.tab;
    return unitPicture(unit) || (['img2img', 'inpaint'].includes(tab) && page.pictures(tab === 'inpaint' ? 'inpaint_image' : 'init')[0]) || '';
  }

  async function base64(name) {
    const blob = await (await fetch(`/ui/inputs/${name}`)).blob();
    return new Promise((done) => {
      const reader = new FileReader();
      reader.onload = () => done(reader.result.split(',')[1]);
      reader.readAsDataURL(blob);
    });
  }

  const blobOf = async (png) => (await fetch(`data:image/png;base64,${png}`)).blob();

  async function detect(unit, module, res = -1, a = -1, b = -1) {
    const name = seen(unit);
    if (!name) throw new Error(say('well_none'));
    const wanted = {
      controlnet_module: module, controlnet_input_images: [await base64(name)],
      controlnet_processor_res: res, controlnet_threshold_a: a, controlnet_threshold_b: b,
    };
    if (document.body.dataset.tab === 'inpaint' && !unitPicture(unit)) {
      await page.settled();
      const mask = document.querySelector('#dq-inpaint-mask :is(textarea, input)')?.value;
      if (mask) wanted.controlnet_masks = [await base64(mask)];
    }
    try {
      return await page.post('/controlnet/detect', wanted);
    } catch (error) {
      throw error.message === 'Module not supported' ? new Error(say('control_no_map')) : error;
    }
  }

  // A map that was made here becomes the unit's picture; the server then takes it as it is and switches the unit on.
  let made = 0;
  async function take(unit, blob, kind) {
    page.put(`control${unit}_image`, await page.keep(blob));
    page.write(`dq-control${unit}-made`, `${kind} ${++made}`);
  }

  page.preprocess = async (unit, _image, module, res, a, b) => {
    const place = document.querySelector(`[data-map="${unit}"]`);
    place.hidden = false;
    place.replaceChildren(make('p', { className: 'dq-note', textContent: say('control_working') }));
    try {
      const told = await detect(unit, module, res, a, b);
      const source = `data:image/png;base64,${told.images[0]}`;
      const image = make('img', { src: source, alt: say('control_map') });
      const tools = make('div', { className: 'dq-tools' },
        button('control_take_map', async () => { await take(unit, await blobOf(told.images[0]), 'map'); place.hidden = true; }, 'dq-tool'),
        button('control_large', () => page.large(source, module), 'dq-tool'));
      if (told.poses) tools.prepend(button('control_edit_pose', () => page.pose(unit, told.poses[0]), 'dq-tool'));
      place.replaceChildren(make('figure', {}, image, make('figcaption', { textContent: `${say('control_map')} · ${module}` })), tools);
    } catch (error) {
      place.replaceChildren(make('p', { className: 'dq-note dq-wrong', role: 'alert', textContent: error.message }));
    }
  };

  // A window for an editor: a head, the board, tools, and what to do with the result.
  function dialog(title, hint, board, tools, use) {
    const status = make('p', { className: 'dq-edit-status', role: 'status' });
    const done = button('edit_use', async () => {
      done.disabled = true;
      try { await use(); box.close(); } catch (error) { status.textContent = error.message; } finally { done.disabled = false; }
    }, 'dq-button dq-strong');
    const box = make('dialog', { className: 'dq-edit' },
      make('header', {}, make('h2', { textContent: say(title) }), make('button', { type: 'button', className: 'dq-close', ariaLabel: say('close'), textContent: '×', onclick: () => box.close() })),
      make('p', { className: 'dq-note', textContent: say(hint) }),
      make('div', { className: 'dq-edit-board' }, board), make('div', { className: 'dq-tools' }, ...tools), status,
      make('footer', {}, done));
    box.setAttribute('aria-label', say(title));
    box.addEventListener('close', () => box.remove());
    document.body.append(box);
    box.showModal();
    return { box, status };
  }

  // The picture under an editor's board, to trace over, and the switch for it; nothing where there is no picture.
  function under(unit, board) {
    const name = seen(unit);
    if (!name) return [];
    const check = make('input', { type: 'checkbox', checked: true });
    const show = () => board.style.setProperty('--under', check.checked ? `url(/ui/inputs/${name})` : 'none');
    check.addEventListener('change', show);
    show();
    return [make('label', {}, check, say('edit_under'))];
  }

  page.sketch = (unit) => {
    const [width, height] = [number('dq-width'), number('dq-height')];
    const canvas = make('canvas', { width, height, tabIndex: 0, ariaLabel: say('sketch_title') });
    const board = make('div', { className: 'dq-sheet' }, canvas);
    board.style.cssText = `--w:${width};--h:${height}`;
    const strokes = [];
    let rubber = false;
    const size = make('input', { type: 'range', min: 1, max: 24, value: 3 });
    const pen = canvas.getContext('2d');

    function redraw(to = pen) {
      to.clearRect(0, 0, width, height);
      to.lineCap = to.lineJoin = 'round';
      to.strokeStyle = '#fff';
      for (const stroke of strokes) {
        to.globalCompositeOperation = stroke.rubber ? 'destination-out' : 'source-over';
        to.lineWidth = stroke.size;
        to.beginPath();
        to.moveTo(...stroke.points[0]);
        for (const point of stroke.points) to.lineTo(...point);
        to.lineTo(stroke.points.at(-1)[0] + 0.01, stroke.points.at(-1)[1]);
        to.stroke();
      }
      to.globalCompositeOperation = 'source-over';
    }
    const place = (event) => {
      const area = canvas.getBoundingClientRect();
      return [(event.clientX - area.left) / area.width * width, (event.clientY - area.top) / area.height * height];
    };
    canvas.addEventListener('pointerdown', (event) => {
      event.preventDefault();
      canvas.setPointerCapture(event.pointerId);
      strokes.push({ points: [place(event)], size: Math.max(1.5, Number(size.value) * Math.max(width, height) / 512) * (rubber ? 3 : 1), rubber });
      redraw();
    });
    canvas.addEventListener('pointermove', (event) => {
      if (!canvas.hasPointerCapture(event.pointerId)) return;
      strokes.at(-1).points.push(place(event));
      redraw();
    });
    const tools = [['sketch_pen', false], ['sketch_rubber', true]].map(([word, on]) => {
      const one = button(word, () => { rubber = on; marks(); }, 'dq-tool');
      one.dataset.rubber = on;
      return one;
    });
    const marks = () => { for (const one of tools) one.setAttribute('aria-pressed', String((one.dataset.rubber === 'true') === rubber)); };
    marks();
    dialog('sketch_title', 'sketch_hint', board, [
      ...tools, make('label', {}, say('sketch_size'), size),
      button('edit_undo', () => { strokes.pop(); redraw(); }, 'dq-tool'),
      button('sketch_wipe', () => { strokes.length = 0; redraw(); }, 'dq-tool'), ...under(unit, board),
    ], async () => {
      const sheet = make('canvas', { width, height });
      const to = sheet.getContext('2d');
      redraw(to);
      to.globalCompositeOperation = 'destination-over';
      to.fillRect(0, 0, width, height);
      await take(unit, await new Promise((done) => sheet.toBlob(done, 'image/png')), 'sketch');
    });
  };

  page.isMap = (unit) => {
    if (!seen(unit)) return page.notice(say('well_none'));
    page.write(`dq-control${unit}-made`, `map ${++made}`);
  };

  Object.assign(page, { editing: { button, dialog, under, detect, take, blobOf, number } });
})();
