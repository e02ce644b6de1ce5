// The form that makes a VM: asks the server what is wrong with a field when it is left, and what will be made as one types.
(() => {
  "use strict";
  const form = document.getElementById("create");
  if (!form) return;
  const part = form.querySelector("[hx-trigger=check]");
  const left = form.elements.left; // the names of the fields that were left: only they are told what is wrong
  const typed = "input:not([type=radio], [type=checkbox]), textarea";
  let timer = 0;
  let pressed = false;
  let waiting = false;

  // While a button or a card is being pressed nothing may move under the pointer: the answer has to wait.
  function check() {
    clearTimeout(timer);
    waiting = pressed;
    if (!pressed) htmx.trigger(part, "check");
  }
  function leave(name) {
    left.value = [...new Set([...left.value.split(" "), name])].join(" ").trim();
    check();
  }

  form.addEventListener("input", ({ target }) => {
    if (!target.matches(typed)) return;
    clearTimeout(timer);
    timer = setTimeout(check, 350);
  });
  form.addEventListener("change", ({ target }) => target.matches(typed) || leave(target.name));
  form.addEventListener("focusout", ({ target }) => {
    if (target.matches(typed) && target !== document.activeElement) leave(target.name); // else the window lost the focus
  });
  form.addEventListener("pointerdown", () => {
    pressed = true;
    if (!part.classList.contains("htmx-request")) return;
    waiting = true;
    htmx.trigger(part, "htmx:abort");
  });
  for (const end of ["pointerup", "pointercancel"]) {
    window.addEventListener(end, () => {
      pressed = false;
      if (waiting) timer = setTimeout(check, 50); // after the click
    });
  }
  form.addEventListener("submit", () => {
    clearTimeout(timer);
    waiting = false;
    htmx.trigger(part, "htmx:abort");
  });

  // A message that came or went is tied to its control.
  function tie({ dataset: { slot: name } }) {
    const control = document.getElementById(name);
    const ids = ["error", "warning", "help"].map((kind) => `${name}-${kind}`).filter((id) => document.getElementById(id));
    if (ids.length) control.setAttribute("aria-describedby", ids.join(" "));
    else control.removeAttribute("aria-describedby");
    if (ids.includes(`${name}-error`)) control.setAttribute("aria-invalid", "true");
    else control.removeAttribute("aria-invalid");
  }
  document.addEventListener("htmx:afterRequest", ({ detail: { elt } }) => {
    if (elt === part) form.querySelectorAll("[data-slot]").forEach(tie);
  });
})();
