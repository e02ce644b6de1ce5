// Short messages beside the page: what an answer brings by HX-Trigger, what went well before the page was opened, and what
// other scripts have to say: document.dispatchEvent(new CustomEvent("toast", { detail: { level, text } })).
(() => {
  "use strict";
  const icons = { success: "circle-check", info: "info-circle", warning: "alert-triangle", error: "alert-circle" };

  function toast({ level = "info", text = "" }) {
    const box = document.getElementById("toasts");
    const template = document.getElementById("toast-template");
    if (!box || !template || !text) return;
    if (!(level in icons)) level = "error";
    const item = template.content.firstElementChild.cloneNode(true);
    item.classList.add(`toast-${level}`);
    item.setAttribute("role", level === "error" ? "alert" : "status");
    const use = item.querySelector("use");
    use.setAttribute("href", use.getAttribute("href").split("#")[0] + "#" + icons[level]);
    item.querySelector(".toast-text").textContent = text;
    const close = () => item.remove();
    item.querySelector("button").addEventListener("click", close);
    if (level !== "error") {
      let timer = setTimeout(close, 6000);
      item.addEventListener("mouseenter", () => clearTimeout(timer));
      item.addEventListener("mouseleave", () => (timer = setTimeout(close, 3000)));
    }
    box.append(item);
    while (box.children.length > 4) box.firstElementChild.remove();
  }
  // HX-Trigger: {"toast": {"level": "success", "text": "..."}}; several: {"toast": {"items": [{...}, {...}]}}
  document.addEventListener("toast", (event) => {
    const detail = event.detail ?? {};
    (detail.items ?? [detail]).forEach(toast);
  });

  // What went well is told beside the page, and goes by itself; without scripts it stands above it.
  for (const flash of document.querySelectorAll(".flash")) {
    toast({ level: "success", text: flash.textContent.trim().replace(/\s+/g, " ") });
    flash.remove();
  }
})();
