// The VM list: how many rows are selected, all of the page at once, and the keys j k x Enter.
// The row cursor is the focus itself, on the row's link: it is seen, read out, and Enter follows it.
(() => {
  "use strict";
  const rows = document.getElementById("vm-rows");
  const bar = document.getElementById("bulk");
  if (!rows || !bar) return;
  const count = bar.querySelector("[role=status]");
  const boxes = () => [...rows.querySelectorAll("tr:not([inert]) input[name=vm]")];
  const alls = [...document.querySelectorAll("[data-pick-all]")];
  for (const part of document.querySelectorAll("[data-js]")) part.hidden = false;

  function tell() {
    const total = boxes().length;
    const picked = boxes().filter((box) => box.checked).length;
    for (const all of alls) {
      all.checked = picked > 0 && picked === total;
      all.indeterminate = picked > 0 && picked < total;
    }
    const text = picked ? bar.dataset.selected.replace("{}", picked) : "";
    if (count.textContent !== text) count.textContent = text; // else it would be read out again
  }
  document.addEventListener("change", ({ target }) => {
    if (alls.includes(target)) for (const box of boxes()) box.checked = target.checked;
    tell();
  });
  new MutationObserver(tell).observe(rows, { attributeFilter: ["inert"], subtree: true }); // a VM that is gone is not selected any more
  window.addEventListener("pageshow", tell); // "back" brings the ticks back

  const typing = "input:not([type=checkbox]), textarea, select, [contenteditable], dialog[open], .menu:popover-open";
  function move(row, step) {
    const all = [...rows.querySelectorAll(":scope > tr:not([inert])")];
    const next = row ? all[all.indexOf(row) + step] : all[0];
    next?.querySelector(".row-name").focus();
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest(typing)) return;
    const row = document.activeElement.closest("#vm-rows > tr");
    if (event.key === "j" || event.key === "k") move(row, event.key === "j" ? 1 : -1);
    else if (event.key === "x" && row) row.querySelector("input[name=vm]").click();
    else if (event.key === "Enter" && event.target.name === "vm") row.querySelector(".row-name").click();
    else return;
    event.preventDefault();
  });
})();
