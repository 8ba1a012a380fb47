// The tab of logins: forms and buttons that speak to /v1, and look again.
(() => {
  const page = window.danqing;

  async function send(method, path, body) {
    const headers = body === undefined ? {} : { 'Content-Type': 'application/json' };
    const answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), redirect: 'manual' });
    if (answer.ok || answer.type === 'opaqueredirect') return answer.type === 'opaqueredirect' ? {} : answer.json().catch(() => ({}));
    const told = await answer.json().catch(() => ({}));
    throw new Error(told.errors || (typeof told.detail === 'string' ? told.detail : '') || String(answer.status));
  }
  const again = () => page.load('people');

  async function act(button) {
    const path = button.dataset.path;
    if (button.dataset.sure && !confirm(button.dataset.sure)) return;
    await send(button.dataset.people, path);
    if (path === '/logout' || path === '/v1/account/sessions') {
      window.danqing.forget();
      location.href = '/login';
    } else await again();
  }

  async function fill(form) {
    const told = Object.fromEntries(new FormData(form)), path = form.dataset.peopleForm;
    if (told.scopes) told.scopes = [told.scopes];
    const answer = await send('POST', path, told);
    if (path === '/v1/account/password') { alert(form.dataset.done); location.href = '/login'; return; }
    await again();
    if (answer.token) {
      const made = document.querySelector('.dq-people-made');
      made.hidden = false;
      made.querySelector('code').textContent = answer.token;
    }
  }

  // A user's row: what was changed goes out at once.
  async function change(input) {
    const row = input.closest('[data-user]');
    const value = input.name === 'role' ? { role: input.value }
      : input.name === 'enabled' ? { disabled: !input.checked }
      : { [input.name]: input.value === '' ? null : Number(input.value) };
    await send('PATCH', row.dataset.user, value);
    row.classList.add('dq-saved');
    setTimeout(() => row.classList.remove('dq-saved'), 1200);
  }

  // Links to the chosen pictures, to be copied from a box of the browser's own.
  async function share(button) {
    const links = [];
    for (const one of document.querySelectorAll('.dq-piece input:checked')) {
      const id = one.closest('.dq-piece').querySelector('.dq-thumb').dataset.id;
      links.push(location.origin + (await send('POST', `/v1/images/${id}/share`, { hours: 24 })).path);
    }
    if (links.length) prompt(button.dataset[document.documentElement.lang.startsWith('zh') ? 'zh' : 'en'], links.join(' '));
  }

  const told = (work) => work.catch((error) => { page.notice(error.message); again(); });
  document.addEventListener('click', (event) => {
    const button = event.target.closest?.('[data-people]'), reset = event.target.closest?.('[data-reset-password]');
    if (button) told(act(button));
    const sharing = event.target.closest?.('[data-share]');
    if (sharing) share(sharing).catch((error) => page.notice(error.message));
    if (reset) {
      const password = prompt(reset.dataset.resetPassword);
      if (password) told(send('PATCH', reset.closest('[data-user]').dataset.user, { password }).then(again));
    }
  });
  document.addEventListener('submit', (event) => {
    const form = event.target.closest?.('[data-people-form]');
    if (!form) return;
    event.preventDefault();
    told(fill(form));
  });
  document.addEventListener('change', (event) => { if (event.target.closest?.('[data-user]')) told(change(event.target)); });
})();
