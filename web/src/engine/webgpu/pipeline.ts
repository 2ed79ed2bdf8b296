/** Compiles one program of the engine. */

import { type Operation, PROGRAMS, writtenBindings } from "./shaders.ts";

export interface Program {
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
}

// As in the specification; Node.js has no globals for them.
export const GPU_USAGE = { MAP_READ: 1, COPY_SRC: 4, COPY_DST: 8, STORAGE: 128 } as const;
const FOR_COMPUTE = 4;

/** Compile a program, and lay out what it is bound to. */
export async function compiled(device: GPUDevice, operation: Operation, text: string): Promise<Program> {
  const layout = device.createBindGroupLayout({
    entries: writtenBindings(text).map((isWritten, binding) => ({
      binding,
      visibility: FOR_COMPUTE,
      buffer: {
        type: isWritten ? ("storage" as const) : ("read-only-storage" as const),
        // One buffer holds the sizes of all calls.
        hasDynamicOffset: binding === 1,
      },
    })),
  });
  const module = device.createShaderModule({ code: text });
  const pipeline = await device.createComputePipelineAsync({
    layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
    compute: { module, entryPoint: PROGRAMS[operation][1] },
  });
  return { pipeline, layout };
}
