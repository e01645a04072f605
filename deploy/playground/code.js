// The same call as code that can be copied.

const $ = (id) => document.getElementById(id);

// `chosen` are options of the contract, `input` and `output` names of files.
export function showCode(chosen, input, output, withKey) {
  const format = chosen.format.replace("FORMAT_", "").toLowerCase();
  const python = Object.entries({ ...chosen, format })
    .map(([key, value]) => `${key}=${typeof value === "string" ? JSON.stringify(value) : value === true ? "True" : value}`)
    .join(", ");
  $("code-python").querySelector("code").textContent = [
    "from upscaled import Client",
    "",
    `with Client(${JSON.stringify(location.host)}${withKey ? ', api_key="upk_…"' : ""}) as client:`,
    `    result = client.upscale(${JSON.stringify(input)}, ${python})`,
    `    result.save(${JSON.stringify(output)})`,
  ].join("\n");
  const query = Object.entries(chosen).map(([key, value]) => `options.${key}=${encodeURIComponent(value)}`);
  $("code-curl").querySelector("code").textContent = [
    `curl --fail --data-binary @${quoted(input)} \\`,
    ...(withKey ? ["  --header 'authorization: Bearer upk_…' \\"] : []),
    "  --header 'content-type: application/octet-stream' \\",
    `  --output ${quoted(output)} \\`,
    `  '${location.origin}/v1/upscale:file?${query.join("&")}'`,
  ].join("\n");
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

async function copy(button) {
  await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 1500);
}

function selectTab(chosen) {
  for (const tab of document.querySelectorAll("[role=tab]")) {
    tab.setAttribute("aria-selected", String(tab === chosen));
    tab.tabIndex = tab === chosen ? 0 : -1;
    $(tab.getAttribute("aria-controls")).hidden = tab !== chosen;
  }
  chosen.focus();
}

for (const button of document.querySelectorAll(".copy")) button.addEventListener("click", () => copy(button));
for (const tab of document.querySelectorAll("[role=tab]")) {
  tab.addEventListener("click", () => selectTab(tab));
  tab.addEventListener("keydown", (event) => {
    if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
    const tabs = [...document.querySelectorAll("[role=tab]")];
    selectTab(tabs[(tabs.indexOf(tab) + 1) % tabs.length]);
  });
}
