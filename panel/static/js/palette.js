// The command palette: Ctrl-K (Cmd-K), arrows, Enter, Esc. The server finds (htmx asks); here only the list is walked.
// The focus stays in the field; aria-activedescendant names the option that Enter takes.
(() => {
  "use strict";
  const dialog = document.getElementById("palette");
  if (!dialog?.showModal) return;
  const input = document.getElementById("palette-text");
  const list = document.getElementById("palette-list");
  const said = document.getElementById("palette-said");
  let stale = false; // the list answers an older text
  let wanted = false; // Enter was pressed meanwhile
  if (/^Mac|^iP/.test(navigator.platform)) for (const key of document.querySelectorAll("[data-palette] kbd")) key.textContent = "⌘K";
  const options = () => [...list.querySelectorAll("[role=option]:not([aria-disabled])")];
  const marked = () => list.querySelector("[aria-selected=true]");
  const text = () => input.value.trim().replace(/\s+/g, " ");

  function mark(option, scroll = true) {
    marked()?.setAttribute("aria-selected", "false");
    if (!option) return input.removeAttribute("aria-activedescendant");
    option.setAttribute("aria-selected", "true");
    input.setAttribute("aria-activedescendant", option.id);
    if (!scroll) return;
    if (option === options()[0]) list.scrollTop = 0;
    else option.scrollIntoView({ block: "nearest" });
  }
  function show(any) {
    list.hidden = !any;
    input.setAttribute("aria-expanded", String(any));
  }
  function open() {
    if (dialog.open || document.querySelector("dialog[open]")) return;
    input.value = said.textContent = "";
    list.replaceChildren();
    show(false);
    mark(null);
    stale = true;
    wanted = false;
    dialog.showModal();
    input.focus();
    htmx.trigger(input, "palette-open");
  }
  function move(step) {
    const all = options();
    const at = all.indexOf(marked());
    if (all.length) mark(all[at < 0 ? (step > 0 ? 0 : all.length - 1) : (at + step + all.length) % all.length]);
  }

  document.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.altKey || event.shiftKey || event.key.toLowerCase() !== "k") return;
    event.preventDefault();
    if (dialog.open) dialog.close();
    else open();
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest?.("[data-palette]")) open();
    if (event.target === dialog || event.target.closest?.("[data-palette-close]")) dialog.close();
  });
  input.addEventListener("input", () => {
    stale = true;
    wanted = false;
  });
  input.addEventListener("keydown", (event) => {
    if (event.isComposing) return; // Enter and arrows are the input method's
    if (event.key === "ArrowDown" || event.key === "ArrowUp") move(event.key === "ArrowDown" ? 1 : -1);
    else if (event.key === "Enter" && stale) wanted = true;
    else if (event.key === "Enter") marked()?.click();
    else return;
    event.preventDefault();
  });
  input.addEventListener("palette", ({ detail }) => { // the list is there: HX-Trigger-After-Settle
    if (detail.q !== text().slice(0, 100).trim()) return;
    stale = false;
    show(list.querySelector("[role=option]") !== null);
    said.textContent = detail.said;
    mark(options()[0]);
    if (wanted) marked()?.click();
  });
  for (const name of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) {
    input.addEventListener(name, ({ detail }) => {
      if (detail.xhr?.status === 401) return; // panel.js goes to the login page
      said.textContent = document.getElementById("i18n").dataset.unreachable;
    });
  }
  list.addEventListener("mousemove", (event) => {
    const option = event.target.closest("[role=option]:not([aria-disabled])");
    if (option && option !== marked()) mark(option, false);
  });
  list.addEventListener("mousedown", (event) => event.preventDefault()); // the focus stays in the field
  list.addEventListener("click", (event) => {
    const option = event.target.closest("[role=option]:not([aria-disabled])");
    if (option && !event.ctrlKey && !event.metaKey) dialog.close(); // a question may follow, in a dialog of its own
  });
})();
