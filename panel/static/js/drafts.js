// What was typed into a long form whose login has ended comes back after the next login, in this tab, without passwords.
// <form data-draft="address of the form, {name} for what a field holds" data-draft-told="what is said then">; the login
// page has <form data-draft-login>. A draft is made when the form is sent, or when the panel says 401 to its page.
(() => {
  "use strict";
  const KEY = "openidcs-draft";
  const FRESH = 600_000; // ms between the end of a login and the login page: an older draft has nothing to do with it
  const form = document.querySelector("form[data-draft]");
  const entered = document.querySelector("form[data-draft-login]");
  const kept = (control) => control.name && !/^(hidden|password|file|submit|button)$/.test(control.type);
  const path = (url) => new URL(url, location.href).pathname;

  function stored() {
    try {
      return JSON.parse(sessionStorage.getItem(KEY));
    } catch {
      return null; // this browser keeps nothing
    }
  }
  function store(draft) {
    try {
      if (draft) sessionStorage.setItem(KEY, JSON.stringify(draft));
      else sessionStorage.removeItem(KEY);
    } catch { /* the same */ }
  }

  function keep() {
    const url = form.dataset.draft.replace(/\{(\w+)\}/g, (_all, name) => encodeURIComponent(form.elements[name]?.value ?? ""));
    const fields = [...form.elements].filter(kept).map(({ name, value, type, checked }) =>
      /^(radio|checkbox)$/.test(type) ? { name, value, checked } : { name, value });
    store({ url, fields, at: Date.now(), login: false });
  }

  function restore({ fields }) {
    for (const { name, value, checked } of fields) {
      for (const control of [...form.elements].filter((one) => one.name === name && kept(one))) {
        if (checked === undefined) control.value = value;
        else if (control.value === value) control.checked = checked;
      }
    }
    form.querySelector("input:not([type=hidden])")?.dispatchEvent(new Event("input", { bubbles: true })); // it is checked anew
    document.dispatchEvent(new CustomEvent("toast", { detail: { level: "warning", text: form.dataset.draftTold } }));
  }

  const draft = stored();
  if (entered && draft) {
    const wanted = entered.elements.next.value;
    if (wanted && path(wanted) === path(draft.url) && Date.now() - draft.at < FRESH) store({ ...draft, login: true });
  }
  if (!form) return;
  store(null);
  form.addEventListener("submit", keep);
  document.addEventListener("htmx:responseError", ({ detail: { xhr } }) => xhr.status === 401 && keep());
  if (!draft?.login) return;
  const there = new URL(draft.url, location.href);
  if (there.pathname !== location.pathname) return;
  if (there.search === location.search) return restore(draft);
  store(draft);
  location.replace(there);
})();
