(window.danqingTriggers ??= {})[element.closest('#dq-history') ? 'history' : 'stage'] = trigger;
// Events that the page listens to: 'use', 'example', 'paste', 'model', 'vae'.
element.addEventListener('click', (event) => window.danqing.clicked(event));
